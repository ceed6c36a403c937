"""Sparse files to tensors: nothing is believed before it is checked, nor allocated before that."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chita.errors import CheckpointError
from chita.machine import available_memory
from chita.sparse_file import coding
from chita.sparse_file.coding import Coding
from chita.sparse_file.header import (
    LEAST,
    MAGIC,
    TENSORS,
    Entry,
    Shard,
    Start,
    checksum_of,
    shown,
    unpack_index,
    unpack_start,
    unpack_tensors,
)
from chita.sparse_file.narrowing import widened
from chita.sparse_file.types import BOOL, LITTLE_ENDIAN, Bits, tensor_of
from chita.sparse_file.writing import SUFFIX, shard_path

_LISTED = 20  # files listed in one message
_MOST_BYTES = 1 << 40  # where the system does not tell how much memory


def is_sparse(path: Path) -> bool:
    """Return whether a file begins as a sparse file does, or is named so."""
    if path.suffix == SUFFIX:
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_sparse(path: Path, *, max_bytes: int | None = None) -> dict[str, Tensor]:
    """Return the named tensors of a sparse file, or of all shards of an index.

    Every tensor has memory of its own, also where several share their data in the file. Memory is
    needed for the tensors, and while reading for the data of one of them, which never takes more
    than the tensor, and some megabytes.

    Args:
        path: a file of tensors, one shard, or an index beside its shards.
        max_bytes: of all tensors in memory. A small file may hold large tensors of zeros, so more
            than the memory that is available is refused where nothing is said.

    Raises `CheckpointError` when the file is absent, no sparse file, damaged, or larger than that.
    """
    if not LITTLE_ENDIAN:
        raise CheckpointError(f"{path} is not read on this machine: it is big-endian.")
    if max_bytes is None:
        max_bytes = available_memory() or _MOST_BYTES
    with _opened(path) as (stream, start, header):
        if start.decoded > max_bytes:
            raise CheckpointError(
                f"{path} says that it holds tensors of {start.decoded:,} bytes, and {max_bytes:,} "
                "are allowed. If you trust it, and have the memory, raise max_bytes of chita.load."
            )
        if start.kind == TENSORS:
            return _tensors(stream, unpack_tensors(header, start))
        shards = unpack_index(header, start)
    return _of_shards(path, shards)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, Start, bytes]]:
    """A file, what its first bytes say, and its whole header; faults become `CheckpointError`."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = unpack_start(stream.read(LEAST), size)
            stream.seek(0)
            yield stream, start, _exactly(stream, start.header).tobytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Check the path.") from None
    except MemoryError:
        raise CheckpointError(f"{path} needs more memory than there is. Free some.") from None
    except ValueError as fault:
        if isinstance(fault, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is damaged, or no sparse file: {fault}. Copy or write it again."
        ) from None


def _exactly(stream: BufferedReader, count: int) -> Bits:
    return _filled(stream, np.empty(count, np.uint8))


def _filled(stream: BufferedReader, out: Bits) -> Bits:
    """Fill an array with the next bytes."""
    if stream.readinto(out.data) != out.nbytes:
        raise ValueError("it became shorter while it was read")
    return out


def _of_shards(path: Path, shards: tuple[Shard, ...]) -> dict[str, Tensor]:
    """The tensors of all shards, each of which must be the one that its index lists."""
    files = [shard_path(path, number, len(shards)) for number in range(1, len(shards) + 1)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise CheckpointError(
            f"{path} is the index of files that are not beside it: "
            f"{', '.join(missing[:_LISTED])}{more}. Copy all of them, under their own names."
        )
    tensors: dict[str, Tensor] = {}
    for number, (file, shard) in enumerate(zip(files, shards, strict=True), start=1):
        with _opened(file) as (stream, start, header):
            found = Shard(
                bytes=start.bytes,
                decoded=start.decoded,
                tensors=start.entries,
                checksum=checksum_of(header),
            )
            if (found, start.shard, start.shards) != (shard, number, len(shards)):
                raise ValueError(f"it is not the shard that {path.name} lists")
            entries = unpack_tensors(header, start)
            doubled = next((entry.name for entry in entries if entry.name in tensors), None)
            if doubled is not None:
                raise ValueError(f"{shown(doubled)} is in an earlier shard, too")
            tensors |= _tensors(stream, entries)
    return tensors


def _tensors(stream: BufferedReader, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """The tensors of one file, whose stream is at the end of its header."""
    unknown = [entry.kind.name for entry in entries if entry.kind.torch is None]
    if unknown:
        raise CheckpointError(
            f"PyTorch {torch.__version__} has no numbers of type {unknown[0]}. Install a newer one."
        )
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        if entry.coding == Coding.SAME:
            tensors[entry.name] = tensors[entries[entry.count].name].clone()
            continue
        try:
            bits = _decoded(stream, entry)
        except ValueError as fault:
            raise ValueError(f"{shown(entry.name)}: {fault}") from None
        tensors[entry.name] = tensor_of(bits, entry.kind, entry.shape)
    return tensors


def _decoded(stream: BufferedReader, entry: Entry) -> Bits:
    """The numbers of a tensor, as bits. Their memory is taken only where numbers are not zero."""
    out: Bits = np.zeros(entry.size, entry.kind.bits)
    if entry.coding == Coding.DENSE and entry.values == entry.kind:
        _check(_filled(stream, out), _exactly(stream, entry.span - entry.stored), entry)
    else:
        data = _exactly(stream, entry.span)
        end = entry.count * entry.values.width
        stored, places = data[:end].view(entry.values.bits), data[end : entry.stored]
        _check(data[: entry.stored], data[entry.stored :], entry)

        def values(begin: int, end: int) -> Bits:
            return widened(stored[begin:end], entry.kind, entry.values)

        if entry.coding == Coding.DENSE:
            coding.fill_dense(out, values)
        elif entry.coding == Coding.BITMASK:
            coding.fill_by_bitmask(out, places, values, entry.count)
        else:
            coding.fill_by_gaps(out, places, values, entry.count)
    if entry.kind == BOOL and any((block > 1).any() for block in coding.blocks(out)):
        raise ValueError("it holds bytes that are neither False nor True")
    return out


def _check(data: Bits, padding: Bits, entry: Entry) -> None:
    if zlib.crc32(padding.data, zlib.crc32(data.data)) != entry.checksum:
        raise ValueError("the checksum of its data is wrong")
    if padding.any():
        raise ValueError("bytes behind its data are not zero")
