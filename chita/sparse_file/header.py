"""The header of a sparse file: bytes to what they say, each of it checked, and back."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from chita.sparse_file.coding import ESCAPE, Coding, mask_bytes
from chita.sparse_file.narrowing import narrows
from chita.sparse_file.types import BY_CODE, NumberType

MAGIC = b"\x89CHITA\r\n"  # no text, and other bytes after a transfer as text
VERSION = 1
TENSORS, INDEX = 1, 2  # kinds of files
ALIGNMENT = 8
MOST = 0xFFFF  # tensors in a file, shards in a set
MOST_NAME = 0xFFFF  # bytes
MOST_DIMENSIONS = 64
_SHOWN = 80  # characters of a name in a message

_START = struct.Struct("<8sHHIQQQHH")
_TENSOR = struct.Struct("<BBBBQQI")
_SHARD = struct.Struct("<QQII")
_CHECKSUM = struct.Struct("<I")
LEAST = ALIGNMENT * -(-(_START.size + _CHECKSUM.size) // ALIGNMENT)
"""Bytes of the shortest header."""


@final
@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a file says of one tensor.

    Fields: `name`, `shape` and type (`kind`) of the tensor; its `coding`; type of the `values` as
    stored, and their `count`; bytes that tell their `places`; `checksum`, the CRC-32 of the
    tensor's data. With the coding `SAME`, the count is the number of the entry whose data it
    shares, from 0.
    """

    name: str
    shape: tuple[int, ...]
    kind: NumberType
    values: NumberType
    coding: Coding
    count: int
    places: int
    checksum: int = 0

    @property
    def size(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)

    @property
    def decoded(self) -> int:
        """Bytes of the tensor in memory."""
        return self.size * self.kind.width

    @property
    def stored(self) -> int:
        """Bytes of its data: values, then places."""
        return 0 if self.coding == Coding.SAME else self.count * self.values.width + self.places

    @property
    def span(self) -> int:
        """Bytes of its data with the zeros up to the next multiple of 8."""
        return aligned(self.stored)


@final
@dataclass(frozen=True, kw_only=True)
class Shard:
    """What an index says of one file: bytes, bytes decoded, tensors, its header's checksum."""

    bytes: int
    decoded: int
    tensors: int
    checksum: int


@final
@dataclass(frozen=True, kw_only=True)
class Start:
    """The fixed beginning of a header.

    Fields: `kind` of file; number of `entries`; bytes of the `header`, of the whole file and of all
    tensors `decoded`; the number of this `shard`, from 1, and of all `shards`.
    """

    kind: int
    entries: int
    header: int
    bytes: int
    decoded: int
    shard: int
    shards: int


def aligned(size: int) -> int:
    """Return the next multiple of 8."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def table_bytes(name: str, dimensions: int) -> int:
    """Return how many bytes of a header a tensor takes."""
    return 2 + len(name.encode()) + _TENSOR.size + 8 * dimensions


def header_bytes(table: int) -> int:
    """Return how long a header is whose table takes so many bytes."""
    return aligned(_START.size + table + _CHECKSUM.size)


def pack_tensors(entries: Sequence[Entry], *, shard: int = 1, shards: int = 1) -> bytes:
    """Return the header of a file of tensors."""
    table = b"".join(_packed(entry) for entry in entries)
    header = header_bytes(len(table))
    start = Start(
        kind=TENSORS,
        entries=len(entries),
        header=header,
        bytes=header + sum(entry.span for entry in entries),
        decoded=sum(entry.decoded for entry in entries),
        shard=shard,
        shards=shards,
    )
    return _sealed(start, table)


def pack_index(shards: Sequence[Shard]) -> bytes:
    """Return the index of a set of shards, a header without data."""
    table = b"".join(_SHARD.pack(s.bytes, s.decoded, s.tensors, s.checksum) for s in shards)
    header = header_bytes(len(table))
    start = Start(
        kind=INDEX,
        entries=len(shards),
        header=header,
        bytes=header,
        decoded=sum(shard.decoded for shard in shards),
        shard=0,
        shards=len(shards),
    )
    return _sealed(start, table)


def unpack_start(head: bytes, size: int) -> Start:
    """Return what the first bytes of a file of `size` bytes say.

    Raises `ValueError` where that cannot be so.
    """
    if head[: len(MAGIC)] != MAGIC[: len(head)] or not head:
        raise ValueError("it does not begin as a sparse file does")
    if size < LEAST or len(head) < LEAST:
        raise ValueError(f"it has {size} bytes, and no sparse file has fewer than {LEAST}")
    _, version, kind, entries, header, total, decoded, shard, shards = _START.unpack_from(head)
    if version != VERSION:
        raise ValueError(f"it is of version {version}, and version {VERSION} alone is read here")
    if total != size:
        raise ValueError(f"it has {size} bytes, and says that it has {total}")
    if not LEAST <= header <= size or header % ALIGNMENT:
        raise ValueError(f"its header cannot have {header} bytes")
    if kind not in {TENSORS, INDEX}:
        raise ValueError(f"{kind} is no kind of file")
    if entries > MOST:
        raise ValueError(f"it lists {entries} entries, and {MOST} are the most")
    return Start(
        kind=kind,
        entries=entries,
        header=header,
        bytes=total,
        decoded=decoded,
        shard=shard,
        shards=shards,
    )


def checksum_of(header: bytes) -> int:
    """Return the CRC-32 with which a header ends."""
    return int(_CHECKSUM.unpack(header[-_CHECKSUM.size :])[0])


def unpack_tensors(header: bytes, start: Start) -> tuple[Entry, ...]:
    """Return what the header of a file of tensors says of them.

    Raises `ValueError` where it is damaged, or says what cannot be so.
    """
    _check_seal(header)
    if start.kind != TENSORS or not 1 <= start.shard <= start.shards:
        raise ValueError(f"it cannot be shard {start.shard} of {start.shards}")
    entries: list[Entry] = []
    names: set[str] = set()
    offset = _START.size
    for _ in range(start.entries):
        entry, offset = _unpacked(header, offset)
        if entry.name in names:
            raise ValueError(f"two tensors have the name {shown(entry.name)}")
        for fault in _faults(entry, entries):
            raise ValueError(f"{shown(entry.name)}: {fault}")
        names.add(entry.name)
        entries.append(entry)
    _check_rest(header, offset)
    if sum(entry.decoded for entry in entries) != start.decoded:
        raise ValueError("its tensors do not take as many bytes as it says")
    if start.header + sum(entry.span for entry in entries) != start.bytes:
        raise ValueError("its tensors' data do not take as many bytes as it has")
    return tuple(entries)


def unpack_index(header: bytes, start: Start) -> tuple[Shard, ...]:
    """Return what an index says of its shards.

    Raises `ValueError` where it is damaged, or says what cannot be so.
    """
    _check_seal(header)
    if start.kind != INDEX or start.shard or start.shards != start.entries or not start.shards:
        raise ValueError("it cannot be an index of its shards")
    if start.bytes != start.header or _START.size + start.entries * _SHARD.size > start.header:
        raise ValueError("an index has a table of its shards, and nothing else")
    offsets = range(_START.size, _START.size + start.entries * _SHARD.size, _SHARD.size)
    rows = [_SHARD.unpack_from(header, offset) for offset in offsets]
    _check_rest(header, offsets.stop)
    names = ("bytes", "decoded", "tensors", "checksum")
    shards = tuple(Shard(**dict(zip(names, row, strict=True))) for row in rows)
    if sum(shard.decoded for shard in shards) != start.decoded:
        raise ValueError("its shards do not decode to as many bytes as it says")
    return shards


def _sealed(start: Start, table: bytes) -> bytes:
    first = _START.pack(
        *(MAGIC, VERSION, start.kind, start.entries, start.header),
        *(start.bytes, start.decoded, start.shard, start.shards),
    )
    body = (first + table).ljust(start.header - _CHECKSUM.size, b"\0")
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _check_seal(header: bytes) -> None:
    if zlib.crc32(memoryview(header)[: -_CHECKSUM.size]) != checksum_of(header):
        raise ValueError("the checksum of its header is wrong")


def _check_rest(header: bytes, offset: int) -> None:
    """Behind the table there are fewer than 8 bytes, zeros, and the checksum."""
    if aligned(offset + _CHECKSUM.size) != len(header):
        raise ValueError("its header does not end where its table does")
    if any(header[offset : -_CHECKSUM.size]):
        raise ValueError("bytes behind its table are not zero")


def _packed(entry: Entry) -> bytes:
    name = entry.name.encode()
    return b"".join((
        struct.pack("<H", len(name)),
        name,
        _TENSOR.pack(
            *(entry.kind.code, entry.values.code, entry.coding, len(entry.shape)),
            *(entry.count, entry.places, entry.checksum),
        ),
        struct.pack(f"<{len(entry.shape)}Q", *entry.shape),
    ))


def _unpacked(header: bytes, offset: int) -> tuple[Entry, int]:
    """An entry of the table, and where the next one begins."""
    try:
        (length,) = struct.unpack_from("<H", header, offset)
        offset += 2
        name = header[offset : offset + length].decode()
        offset += length
        kind, values, coding, dimensions, *rest = _TENSOR.unpack_from(header, offset)
        offset += _TENSOR.size
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"{shown(name)} has {dimensions} dimensions")
        if coding not in set(Coding):
            raise ValueError(f"{shown(name)} has an unknown coding, {coding}")
        shape = struct.unpack_from(f"<{dimensions}Q", header, offset)
        offset += 8 * dimensions
        count, places, checksum = rest
        entry = Entry(
            name=name,
            shape=shape,
            kind=BY_CODE[kind],
            values=BY_CODE[values],
            coding=Coding(coding),
            count=count,
            places=places,
            checksum=checksum,
        )
    except struct.error:
        raise ValueError("its header ends within its table") from None
    except UnicodeDecodeError:
        raise ValueError("a name is not UTF-8") from None
    except KeyError as unknown:
        raise ValueError(f"{shown(name)} has numbers of an unknown type, {unknown}") from None
    return entry, offset


def _faults(entry: Entry, before: Sequence[Entry]) -> Iterator[str]:
    """What an entry says that cannot be so, or that no tensor is stored by."""
    if math.prod(max(size, 1) for size in entry.shape) * entry.kind.width >= 1 << 63:
        yield "it has more numbers than any memory holds"
    if entry.values != entry.kind and not narrows(entry.kind, entry.values):
        yield f"{entry.kind.name} is not stored as {entry.values.name}"
    if entry.coding == Coding.SAME:
        yield from _same_faults(entry, before)
    else:
        yield from _data_faults(entry)


def _same_faults(entry: Entry, before: Sequence[Entry]) -> Iterator[str]:
    if entry.count >= len(before) or before[entry.count].coding == Coding.SAME:
        yield f"entry {entry.count} is no tensor before it that has data"
        return
    other = before[entry.count]
    if (entry.shape, entry.kind, entry.values) != (other.shape, other.kind, other.values):
        yield f"it is unlike {shown(other.name)}, whose data it shares"
    if entry.places or entry.checksum:
        yield "it has data of its own and those of another tensor"


def _data_faults(entry: Entry) -> Iterator[str]:
    size, count, places = entry.size, entry.count, entry.places
    if count > size or entry.stored > size * entry.values.width:
        yield f"{size} numbers do not take {count} values and {places} bytes for their places"
    if entry.coding == Coding.DENSE and (count, places) != (size, 0):
        yield f"{size} numbers are not {count} values with {places} bytes for their places"
    if entry.coding == Coding.BITMASK and places != mask_bytes(size):
        yield f"{places} bytes are no bitmask of {size} numbers"
    if entry.coding == Coding.GAPS:
        escapes = places - count
        if escapes < 0 or count + ESCAPE * escapes > size or size >= ESCAPE * (places + 1):
            yield f"{places} bytes are no gaps of {count} values among {size} numbers"


def shown(name: str) -> str:
    """Return a name as it stands in a message."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
