"""Tensors to sparse files: measured first, then written tensor by tensor."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, final

import numpy as np
import torch
from torch import Tensor

from chita.errors import ChitaError, InputError, OutputError
from chita.files import replacing
from chita.sparse_file import coding
from chita.sparse_file.coding import Coding
from chita.sparse_file.header import (
    MOST,
    MOST_DIMENSIONS,
    MOST_NAME,
    Entry,
    Shard,
    checksum_of,
    header_bytes,
    pack_index,
    pack_tensors,
    shown,
    table_bytes,
)
from chita.sparse_file.narrowing import NARROW, narrowed, narrows, unfit
from chita.sparse_file.types import BOOL, BY_NAME, LITTLE_ENDIAN, Bits, NumberType, bits_of, type_of

SUFFIX = ".chita"
SHARD_BYTES = 4 * 10**9
"""Bytes of a file at most, where not said otherwise and no single tensor takes more."""
_LISTED = 20  # faults listed in one message


@final
@dataclass(frozen=True, kw_only=True)
class Written:
    """What `write_sparse` left.

    Fields: `files`, the tensors' file alone, or the index and its shards; `bytes` of them all, and
    of all tensors in memory (`dense_bytes`); `entries`, how each tensor is stored; `raised`, by
    name, how many values would have been rounded to zero and became the smallest of their sign.
    """

    files: tuple[Path, ...]
    bytes: int
    dense_bytes: int
    entries: tuple[Entry, ...]
    raised: dict[str, int]


@dataclass(kw_only=True)
class _Part:
    """A file to be: its entries, and how long its table and its data are."""

    entries: list[Entry] = field(default_factory=list)
    alike: dict[tuple[object, ...], list[int]] = field(default_factory=dict)
    table: int = 0
    data: int = 0

    def holds(self, entry: Entry, limit: int) -> bool:
        """Whether one more tensor leaves the file within its bounds."""
        table = self.table + table_bytes(entry.name, len(entry.shape))
        fits = header_bytes(table) + self.data + entry.span <= limit
        return not self.entries or (fits and len(self.entries) < MOST)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.table += table_bytes(entry.name, len(entry.shape))
        self.data += entry.span


def write_sparse(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    values: str | torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
    force: bool = False,
) -> Written:
    """Write named tensors with their zeros left out; `chita.load` gives the same bits back.

    Each tensor is stored in whichever coding takes the fewest bytes. Beside the tensors, memory is
    needed for the places of one tensor's values, and a copy of one that is not contiguous or not
    on the CPU.

    Args:
        tensors: as of `Module.state_dict`.
        path: the file, its name ending in `.chita`.
        values: `"float16"` or `"bfloat16"`: numbers of float32 and float64 are rounded to the
            nearest of that type and come back in their own. The same places are zero: what would
            be rounded to zero becomes the smallest number of its sign, and is counted.
        shard_bytes: what would be longer becomes several files, `NAME-00001-of-00003.chita` and so
            on, and `path` their index. A tensor is never split: one that is larger than this has a
            file alone.
        force: whether files that exist are replaced. Files are put in their places when all are
            complete, an index last.

    Raises:
        InputError: a name, type or tensor that a sparse file does not hold, or, with `values`, NaN
            and numbers that are too large.
        OutputError: it cannot be written, or exists; nothing new is left there then.
    """
    path = Path(path)
    narrow = _narrow(values)
    if path.suffix != SUFFIX or not path.stem:
        raise OutputError(f"{path} is no name for a sparse file. Give one that ends in {SUFFIX}.")
    if isinstance(shard_bytes, bool) or not isinstance(shard_bytes, int) or shard_bytes < 1:
        raise InputError(f"shard_bytes is {shard_bytes!r}; give the bytes of a file, above 0.")
    _check(tensors, narrow)
    parts, raised = _planned(tensors, narrow, shard_bytes)
    if len(parts) > MOST:
        raise InputError(f"{len(parts)} shards are more than {MOST}. Raise shard_bytes.")
    try:
        files, entries = _write(tensors, parts, path, force=force)
        total = sum(file.stat().st_size for file in files)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        if isinstance(error, ChitaError):
            raise
        raise OutputError(
            f"{path} could not be written: {error}. Nothing was left there; free space or choose "
            "another path."
        ) from error
    return Written(
        files=tuple(files),
        bytes=total,
        dense_bytes=sum(entry.decoded for entry in entries),
        entries=entries,
        raised=raised,
    )


def shard_path(path: Path, number: int, shards: int) -> Path:
    """Return where the shard of a number, from 1, of the index at `path` lies."""
    return path.with_name(f"{path.stem}-{number:05d}-of-{shards:05d}{SUFFIX}")


def _narrow(values: str | torch.dtype | None) -> NumberType | None:
    if values is None:
        return None
    found = BY_NAME.get(str(values).removeprefix("torch."))
    if found not in NARROW:
        raise InputError(
            f"`values` is {values!r}; give one of {', '.join(kind.name for kind in NARROW)}, or "
            "None for the tensors' own types."
        )
    return found


def _check(tensors: Mapping[str, Tensor], narrow: NumberType | None) -> None:
    """Raise `InputError` with all that no sparse file holds."""
    if not LITTLE_ENDIAN:
        raise InputError("Sparse files are not written on this machine: it is big-endian.")
    faults = [
        f"{shown(str(name))}: {fault}" for name, t in tensors.items() for fault in _bad(name, t)
    ]
    if not faults and narrow is not None:
        faults = [
            f"{shown(name)}: {count} numbers are NaN or too large for {narrow.name}"
            for name, tensor in tensors.items()
            if (kind := type_of(tensor)) is not None and narrows(kind, narrow)
            if (count := sum(unfit(b, kind, narrow) for b in coding.blocks(bits_of(tensor))))
        ]
        if faults:
            raise InputError(
                f"The values cannot be stored in {narrow.name}: {_listed(faults)}. Store them in "
                "bfloat16, which reaches as far as float32, or in their own types (values=None)."
            )
    if faults:
        raise InputError(
            f"A sparse file does not hold these: {_listed(faults)}. Give plain dense tensors with "
            "values, under names."
        )


def _listed(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
    return f"{'; '.join(faults[:_LISTED])}{more}"


def _bad(name: object, tensor: object) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"its name is of type {type(name).__name__}"
    elif not name.isascii() and name.encode(errors="replace").decode() != name:
        yield "its name cannot be written in UTF-8"
    elif len(name.encode()) > MOST_NAME:
        yield f"its name takes more than {MOST_NAME} bytes"
    if not isinstance(tensor, Tensor):
        yield f"it is of type {type(tensor).__name__}"
    elif tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        yield "it is sparse, quantised or without values"
    elif type_of(tensor) is None:
        yield f"its type is {tensor.dtype}"
    elif tensor.ndim > MOST_DIMENSIONS:
        yield f"it has more than {MOST_DIMENSIONS} dimensions"
    elif type_of(tensor) == BOOL and any((b > 1).any() for b in coding.blocks(bits_of(tensor))):
        yield "it holds bytes that are neither False nor True"


def _planned(
    tensors: Mapping[str, Tensor], narrow: NumberType | None, limit: int
) -> tuple[list[_Part], dict[str, int]]:
    """Which tensors are stored how and in which file; and how many values are raised."""
    parts, raised = [_Part()], {}
    for name, tensor in tensors.items():
        bits = bits_of(tensor)
        entry, raises = _measured(name, tensor, bits, narrow)
        if raises:
            raised[name] = raises
        # A number for all bits tells nearly always which tensors need not be compared.
        key = (entry.shape, entry.kind, zlib.crc32(bits.data))
        part = parts[-1]
        twin = next(
            (
                number
                for number in part.alike.get(key, ())
                if np.array_equal(bits_of(tensors[part.entries[number].name]), bits)
            ),
            None,
        )
        shared = entry
        if twin is not None and entry.stored:
            shared = replace(entry, coding=Coding.SAME, count=twin, places=0)
        if not part.holds(shared, limit):
            part, shared = _Part(), entry
            parts.append(part)
        if shared.coding != Coding.SAME:
            part.alike.setdefault(key, []).append(len(part.entries))
        part.add(shared)
    return parts, raised


def _measured(
    name: str, tensor: Tensor, bits: Bits, narrow: NumberType | None
) -> tuple[Entry, int]:
    """A tensor's entry in its smallest coding, without checksum; and how many values are raised."""
    kind = type_of(tensor)
    assert kind is not None
    values, raised = kind, 0
    if narrow is not None and narrows(kind, narrow):
        values = narrow
        raised = sum(narrowed(block, kind, values)[1] for block in coding.blocks(bits))
    kept, gaps = coding.counts(bits)
    best = coding.smallest(len(bits), kept, gaps, values.width)
    places = {Coding.DENSE: 0, Coding.BITMASK: coding.mask_bytes(len(bits)), Coding.GAPS: gaps}
    entry = Entry(
        name=name,
        shape=tuple(tensor.shape),
        kind=kind,
        values=values,
        coding=best,
        count=len(bits) if best == Coding.DENSE else kept,
        places=places[best],
    )
    return entry, raised


def _write(
    tensors: Mapping[str, Tensor], parts: Sequence[_Part], path: Path, *, force: bool
) -> tuple[list[Path], tuple[Entry, ...]]:
    """Write all files under temporary names, then put each in its place, an index last."""
    alone = len(parts) == 1
    numbers = range(1, len(parts) + 1)
    files = [path] if alone else [shard_path(path, n, len(parts)) for n in numbers]
    every = files if alone else [path, *files]
    taken = [file for file in every if file.exists() or file.is_symlink()]
    for file in taken:
        if not force or not file.is_file():
            raise OutputError(f"{file} exists. Choose another path, or replace it with force=True.")
    absent = [folder for folder in path.absolute().parents if not folder.exists()]
    entries: list[Entry] = []
    shards: list[Shard] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # what is entered first is put in its place last
            index = None if alone else stack.enter_context(replacing(path))
            for number, part, file in zip(numbers, parts, files, strict=True):
                draft = stack.enter_context(replacing(file))
                own, shard = _write_file(tensors, part.entries, draft, number, len(parts))
                entries += own
                shards.append(shard)
            if index is not None:
                with index.open("wb") as stream:
                    stream.write(pack_index(shards))
                    _flush(stream)
    except BaseException:
        for file in set(every) - set(taken):
            file.unlink(missing_ok=True)
        for folder in absent:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    return every, tuple(entries)


def _write_file(
    tensors: Mapping[str, Tensor], entries: Sequence[Entry], path: Path, shard: int, shards: int
) -> tuple[list[Entry], Shard]:
    """Write one file; return its entries with their checksums, and what an index says of it."""
    done = []
    with path.open("wb") as stream:
        stream.write(bytes(len(pack_tensors(entries, shard=shard, shards=shards))))
        for entry in entries:
            checksum = 0
            if entry.coding != Coding.SAME:
                for piece in _pieces(bits_of(tensors[entry.name]), entry):
                    checksum = zlib.crc32(piece.data, checksum)
                    stream.write(piece.data)
            done.append(replace(entry, checksum=checksum))
        header = pack_tensors(done, shard=shard, shards=shards)
        length = stream.tell()
        assert length == len(header) + sum(entry.span for entry in done)
        stream.seek(0)
        stream.write(header)
        _flush(stream)
    decoded = sum(entry.decoded for entry in done)
    return done, Shard(
        bytes=length, decoded=decoded, tensors=len(done), checksum=checksum_of(header)
    )


def _pieces(bits: Bits, entry: Entry) -> Iterator[Bits]:
    """The data of a tensor: values, places, and zeros up to a multiple of 8 bytes."""
    parts = coding.blocks(bits) if entry.coding == Coding.DENSE else coding.kept_values(bits)
    for part in parts:
        narrow = entry.values != entry.kind
        yield narrowed(part, entry.kind, entry.values)[0] if narrow else part
    if entry.coding == Coding.BITMASK:
        yield coding.bitmask(bits)
    elif entry.coding == Coding.GAPS:
        yield coding.gaps(bits)
    yield np.zeros(entry.span - entry.stored, np.uint8)


def _flush(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
