"""Bytes of files, plain and compressed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from chita.errors import InputError
from chita.models.stored import once, write_stored
from chita.runtimes.copying import tensors_of
from chita.runtimes.measured import Size
from chita.sparse_file.writing import write_sparse

_LEVEL = 9  # of zstd, from 1 to 22


_WRITERS: dict[str, tuple[str, Callable[[dict[str, Tensor], Path], object]]] = {
    "safetensors": (".safetensors", write_stored),
    "sparse file": (".chita", write_sparse),
    "sparse file, float16": (".chita", partial(write_sparse, values="float16")),
}


def tensor_sizes(dense: nn.Module, pruned: nn.Module, folder: Path) -> tuple[Size, ...]:
    """Return the bytes of both networks' tensors in every form, written into an empty folder.

    A form is left out if it cannot hold a network's values.
    """
    found = []
    for name, (suffix, write) in _WRITERS.items():
        paths = [folder / f"{name}-{i}{suffix}" for i in range(2)]
        try:
            for network, path in zip((dense, pruned), paths, strict=True):
                write(_tensors(network), path)
        except InputError:
            continue
        found.append(size_of(name, paths[:1], paths[1:]))
    return tuple(found)


def size_of(name: str, dense: Sequence[Path], pruned: Sequence[Path]) -> Size:
    """Return the bytes of files of two networks, which are read whole."""
    return Size(
        name=name,
        dense=sum(file.stat().st_size for file in dense),
        pruned=sum(file.stat().st_size for file in pruned),
        dense_zstd=_compressed(dense),
        pruned_zstd=_compressed(pruned),
    )


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: t.contiguous() for name, t in once(tensors_of(network)).items()}


def _compressed(files: Sequence[Path]) -> int | None:
    """Return the bytes after compression by zstd, None if it is not installed."""
    try:
        zstd = importlib.import_module("zstandard")
    except ImportError:
        return None
    squeeze = zstd.ZstdCompressor(level=_LEVEL)
    return sum(len(squeeze.compress(file.read_bytes())) for file in files)
