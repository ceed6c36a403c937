"""Bytes of files, plain and compressed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from chita.errors import InputError
from chita.naming import plain_name
from chita.runtimes.measured import Size
from chita.sparse_file.writing import write_sparse

_LEVEL = 9  # of zstd, from 1 to 22
_WRITERS: dict[str, tuple[str, Callable[[Mapping[str, Tensor], Path], object]]] = {
    "safetensors": (".safetensors", lambda tensors, path: save_file(dict(tensors), path)),
    "sparse file": (".chita", write_sparse),
    "sparse file, float16": (".chita", partial(write_sparse, values="float16")),
}


def tensor_sizes(dense: nn.Module, pruned: nn.Module, folder: Path) -> tuple[Size, ...]:
    """Return the bytes of both networks' tensors in every form, written into an empty folder.

    A form is left out where it cannot hold a network's values.
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


def size_of(name: str, dense: Iterable[Path], pruned: Iterable[Path]) -> Size:
    """Return the bytes of files of two networks, which are read whole."""
    theirs, ours = list(dense), list(pruned)
    return Size(
        name=name,
        dense=sum(file.stat().st_size for file in theirs),
        pruned=sum(file.stat().st_size for file in ours),
        dense_zstd=_compressed(theirs),
        pruned_zstd=_compressed(ours),
    )


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    return {plain_name(name): t.detach().clone().contiguous() for name, t in state.items()}


def _compressed(files: list[Path]) -> int | None:
    """Bytes compressed by zstd, None where it is not here."""
    try:
        zstd = importlib.import_module("zstandard")
    except ImportError:
        return None
    squeeze = zstd.ZstdCompressor(level=_LEVEL)
    return sum(len(squeeze.compress(file.read_bytes())) for file in files)
