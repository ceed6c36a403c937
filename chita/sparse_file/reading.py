"""Sparse files to tensors: nothing is believed before it is checked, nor allocated before that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from chita.errors import CheckpointError, failures_as
from chita.machine import available_memory
from chita.sparse_file.coding import Coding, places_of_bitmask, places_of_gaps
from chita.sparse_file.metadata import KEY, VALUES, SparseMetadata, StoredTensor
from chita.sparse_file.types import LITTLE_ENDIAN, TYPES, WIDE, bits_of, container, tensor_of
from chita.sparse_file.writing import SUFFIX, shown

_MAGIC = b"\x89CHITA\r\n"  # of version 1, which had a container of its own
_MOST_BYTES = 1 << 40  # where the system does not say how much memory there is


def is_sparse(path: Path) -> bool:
    """Return whether a file is named as a sparse file is, or has the metadata of one."""
    if path.suffix == SUFFIX:
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return _is_of_version_1(path)


def read_sparse(path: Path, *, max_bytes: int | None = None) -> dict[str, Tensor]:
    """Return the named tensors of a sparse file, in the order in which they were written.

    Every tensor has memory of its own, also where several are stored as one. Memory is needed for
    the tensors, and while reading about as much as the largest of them takes.

    Args:
        path: the file.
        max_bytes: of all tensors in memory. A small file may hold large tensors of zeros, so more
            than the memory that is available is refused where nothing is said.

    Raises `CheckpointError` when the file is absent, no sparse file, damaged, or larger than that.
    """
    if not LITTLE_ENDIAN:
        raise CheckpointError(f"{path} is not read on this machine: it is big-endian.")
    if _is_of_version_1(path):
        raise CheckpointError(
            f"{path} is a sparse file of version 1, which is not read any more. Export the "
            "network again."
        )
    if max_bytes is None:
        max_bytes = available_memory() or _MOST_BYTES
    with _faults_of(path):
        parts, metadata = _opened(path)
        total = _total_bytes(metadata)
        if total > max_bytes:
            raise CheckpointError(
                f"{path} says that it holds tensors of {total:,} bytes, and {max_bytes:,} are "
                "allowed. If you trust it, and have the memory, raise max_bytes of chita.load."
            )
        pieces = _pieces(parts, metadata)
        tensors: dict[str, Tensor] = {}
        for name, one in metadata.tensors.items():
            if isinstance(one, str):
                tensors[name] = tensors[one].clone()
                continue
            try:
                tensors[name] = _decoded(one, metadata, pieces)
            except ValueError as fault:
                raise ValueError(f"{shown(name)}: {fault}") from None
    return tensors


def _is_of_version_1(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Let what a damaged file leads to, in any library, become one `CheckpointError`."""
    damaged, ask = f"{path} is damaged, or no sparse file", "Copy or write it again."
    try:
        with (
            failures_as(CheckpointError, f"{path} cannot be read", "Check the path.", of=OSError),
            failures_as(CheckpointError, damaged, ask, of=(SafetensorError, ValueError)),
        ):
            yield
    except MemoryError:
        raise CheckpointError(f"{path} needs more memory than there is. Free some.") from None


def _opened(path: Path) -> tuple[dict[str, Tensor], SparseMetadata]:
    """The parts of a file, whose bytes stay in the file, and its metadata, which fit them."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(KEY)
        if text is None:
            raise ValueError(f"its metadata have no entry {KEY!r}")
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    try:
        metadata = SparseMetadata.model_validate_json(text)
    except ValueError:
        raise ValueError("its metadata are not those of a sparse file of version 2") from None
    if metadata.hashed(parts) != metadata.sha256:
        raise ValueError("its content has another SHA-256 than it says")
    return parts, metadata


def _total_bytes(metadata: SparseMetadata) -> int:
    """Bytes of all tensors in memory. Raises `ValueError` when no tensors are so described."""
    seen: dict[str, StoredTensor] = {}
    total = 0
    for name, entry in metadata.tensors.items():
        one = seen.get(entry) if isinstance(entry, str) else entry
        if one is None:
            raise ValueError(f"{shown(name)} is the same as no tensor before it")
        seen[name] = one
        width = _type(one.type).itemsize
        if math.prod(max(size, 1) for size in one.shape) * width >= 1 << 63:
            raise ValueError(f"{shown(name)} has more numbers than any memory holds")
        total += one.size * width
    return total


def _type(name: str) -> torch.dtype:
    if name not in TYPES:
        raise ValueError(f"{shown(name)} is no type of numbers")
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(
            f"PyTorch {torch.__version__} has no numbers of type {name}. Install a newer one."
        )
    return found


def _pieces(parts: Mapping[str, Tensor], metadata: SparseMetadata) -> dict[str, Iterator[Tensor]]:
    """The pieces of every part that belong to its tensors, in their order.

    Raises `ValueError` where the tensors do not make up these parts.
    """
    sizes: dict[str, list[int]] = {}
    for one in metadata.tensors.values():
        if isinstance(one, StoredTensor):
            sizes.setdefault(metadata.part_of(one.type), []).append(one.values)
            if one.coding != Coding.DENSE:
                sizes.setdefault(one.coding, []).append(one.places)
    needed = {name: (_stored_in(name), (sum(own),)) for name, own in sizes.items()}
    if {name: (part.dtype, part.shape) for name, part in parts.items()} != needed:
        raise ValueError("its parts are not those of its tensors")
    return {name: iter(part.split(sizes[name])) for name, part in parts.items()}


def _stored_in(part: str) -> torch.dtype:
    kind = part.removeprefix(VALUES)
    return torch.uint8 if kind == part else container(kind)


def _decoded(
    one: StoredTensor, metadata: SparseMetadata, pieces: Mapping[str, Iterator[Tensor]]
) -> Tensor:
    """A tensor from the next pieces of the parts; `ValueError` where they are not one."""
    dtype = _type(one.type)
    part = next(pieces[metadata.part_of(one.type)])
    values = bits_of(part.to(dtype) if metadata.narrow and one.type in WIDE else part)
    if one.coding == Coding.DENSE:
        if (one.values, one.places) != (one.size, 0):
            raise ValueError(f"{one.size} numbers are not {one.values} values without places")
        out = values.copy()
    else:
        find = places_of_bitmask if one.coding == Coding.BITMASK else places_of_gaps
        where = find(next(pieces[one.coding]).numpy(), one.size, one.values)
        out = np.zeros(one.size, values.dtype)
        out[where] = values
    if dtype == torch.bool and (out > 1).any():
        raise ValueError("it holds bytes that are neither False nor True")
    return tensor_of(out, dtype, one.shape)
