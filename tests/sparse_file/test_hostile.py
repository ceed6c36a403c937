"""Files whose checksums are right, and that nevertheless cannot be."""

import math
import zlib

import pytest
import torch

import chita
from chita.sparse_file.types import BY_CODE
from tests.sparse_file.forging import (
    MAGIC,
    Row,
    bitmask,
    forged,
    gaps,
    refused,
    same_bits,
    sealed,
)


def test_what_these_tests_forge_is_sound(tmp_path):
    path = tmp_path / "x.chita"
    path.write_bytes(forged(Row()))
    assert same_bits(chita.load(path), {"w": torch.arange(1, 9, dtype=torch.uint8)})
    path.write_bytes(forged(bitmask(b"\x05\0", b"\x07\x09", 9), decoded=9))
    expected = torch.tensor([7, 0, 9, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)
    assert same_bits(chita.load(path), {"w": expected})
    path.write_bytes(forged(gaps(b"\0\1", b"\x07\x09", 9), decoded=9))
    assert same_bits(chita.load(path), {"w": expected})
    path.write_bytes(sealed(b"", b"", decoded=0))
    assert chita.load(path) == {}


BIG = 1 << 62
TWIN = Row(name=b"v", coding=3, count=0, data=b"")
UNFIT = {
    "more values than numbers": (Row(sizes=(7,)), "do not take 8 values"),
    "fewer values than numbers": (Row(sizes=(9,)), "9 numbers are not 8 values"),
    "places of a dense one": (Row(count=7, places=1), "with 1 bytes for their places"),
    "longer than dense": (bitmask(b"\x7f", b"1234567", 7), "7 numbers do not take 7 values and 1"),
    "a long bitmask": (bitmask(b"\1\0", b"1", 8), "2 bytes are no bitmask of 8"),
    "a short bitmask": (bitmask(b"\1", b"1", 9), "1 bytes are no bitmask of 9"),
    "too many bits": (bitmask(b"\x07", b"12", 8), "more bits are set than there are values, 2"),
    "too few bits": (bitmask(b"\1", b"12", 8), "1 bits are set for 2 values"),
    "a bit behind the end": (bitmask(b"\0\2", b"", 9), "a bit is set behind the last number"),
    "fewer gaps than values": (gaps(b"\0", b"12", 8), "no gaps of 2 values"),
    "gaps of too few values": (gaps(b"\0\0", b"1", 8), "no gaps of 1 values"),
    "gaps of another number of values": (
        gaps(b"\xff\xff", b"1", 600),
        "gaps before 0 of 1 values",
    ),
    "a value without a place": (gaps(b"\0\0\0", b"12", 260), "gaps before more than 2"),
    "gaps behind the end": (gaps(b"\5\5", b"12", 8), "its gaps lead behind the last number"),
    "gaps that end early": (gaps(b"\5\xff", b"1", 600), "its gaps end before the last number"),
    "zeros without end": (gaps(b"\xff" * 8, b"", 1 << 50), "8 bytes are no gaps of 0 values"),
    "no gaps for zeros": (gaps(b"", b"", 255), "0 bytes are no gaps of 0 values"),
    "sizes beyond all memory": (Row(sizes=(BIG, BIG)), "more numbers than any memory holds"),
    "sizes around none": (Row(sizes=(0, BIG, BIG), count=0, data=b""), "any memory holds"),
    "dimensions": (Row(sizes=(1,) * 64 + (8,)), "has 65 dimensions"),
    "type 0": (Row(kind=0), "unknown type, 0"),
    "type 21": (Row(kind=21, values=21), "unknown type, 21"),
    "type of values": (Row(values=200), "unknown type, 200"),
    "coding": (Row(coding=4), "'w' has an unknown coding, 4"),
    "narrow integers": (Row(kind=6, values=3), "int32 is not stored as float16"),
    "wide values": (Row(kind=2, values=1), "float32 is not stored as float64"),
    "narrow narrow numbers": (Row(kind=3, values=4), "float16 is not stored as bfloat16"),
    "bool": (Row(kind=13, values=13), "neither False nor True"),
    "name": (Row(name=b"\xff\xfe"), "not UTF-8"),
    "checksum": (Row(checksum=5), "checksum of its data"),
    "as itself": (TWIN, "entry 0 is no tensor before it"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_entries_that_cannot_be(tmp_path, case):
    row, match = UNFIT[case]
    width = BY_CODE[row.kind].width if row.kind in BY_CODE else 1
    decoded = min(math.prod(row.sizes) * width, (1 << 64) - 1)
    (tmp_path / "x.chita").write_bytes(forged(row, decoded=decoded))
    refused(tmp_path / "x.chita", match, most=1 << 64)


CANNOT_BE = {
    "a name twice": (forged(Row(), Row(), decoded=16), "two tensors have the name 'w'"),
    "as a later one": (
        forged(Row(name=b"v", coding=3, count=1, data=b""), Row(), decoded=16),
        "'v': entry 1 is no tensor before",
    ),
    "as one without data": (
        forged(Row(), TWIN, Row(name=b"u", coding=3, count=1, data=b""), decoded=24),
        "'u': entry 1 is no tensor before",
    ),
    "as another shape": (
        forged(Row(), Row(name=b"v", coding=3, count=0, sizes=(4, 2), data=b""), decoded=16),
        "'v': it is unlike 'w'",
    ),
    "as another type": (
        forged(Row(), Row(name=b"v", coding=3, count=0, kind=8, values=8, data=b""), decoded=16),
        "'v': it is unlike 'w'",
    ),
    "as another, with places": (
        forged(Row(), Row(name=b"v", coding=3, count=0, places=8), decoded=16),
        "data of its own",
    ),
    "padding": (
        forged(
            Row(sizes=(5,), count=5, data=b"12345\0\0\1", checksum=zlib.crc32(b"12345\0\0\1")),
            decoded=5,
        ),
        "bytes behind its data are not zero",
    ),
    "behind the table": (forged(Row(), behind=b"\1"), "bytes behind its table are not zero"),
    "a long header": (forged(Row(), behind=bytes(8)), "does not end where its table does"),
    "more entries than a table": (forged(Row(), entries=2, decoded=16), "ends within its table"),
    "fewer entries": (forged(Row(), Row(name=b"v"), entries=1), "not end where its table does"),
    "many entries": (forged(Row(), entries=1 << 31), "65535 are the most"),
    "fewer bytes decoded": (forged(Row(), decoded=7), "do not take as many bytes as it says"),
    "data of no tensor": (forged(Row(), more=bytes(8)), "not take as many bytes as it has"),
    "less data": (forged(Row(data=b"")), "data do not take as many bytes as it has"),
    "another length": (forged(Row(), bytes=1000), "says that it has 1000"),
    "no header": (forged(Row(), header=8), "cannot have 8 bytes"),
    "a header beyond the file": (forged(Row(), header=1 << 40), "cannot have 1099511627776"),
    "an odd header": (forged(Row(), header=49), "cannot have 49 bytes"),
    "version": (forged(Row(), version=2), "version 2, and version 1 alone"),
    "kind": (forged(Row(), kind=3), "3 is no kind of file"),
    "shard 0": (forged(Row(), shard=0), "cannot be shard 0 of 1"),
    "shard 3 of 2": (forged(Row(), shard=3, shards=2), "cannot be shard 3 of 2"),
    "an empty index": (sealed(b"", b"", kind=2, shard=0, shards=0), "cannot be an index"),
    "an index as a shard": (
        sealed(bytes(24), b"", kind=2, entries=1, shard=1, shards=1),
        "cannot be an index",
    ),
    "an index of other shards": (
        sealed(bytes(24), b"", kind=2, entries=1, shard=0, shards=2),
        "cannot be an index",
    ),
    "an index with data": (
        sealed(bytes(24), bytes(8), kind=2, entries=1, shard=0, shards=1),
        "a table of its shards, and nothing else",
    ),
    "an index without a table": (
        sealed(b"", b"", kind=2, entries=9, shard=0, shards=9),
        "a table of its shards, and nothing else",
    ),
    "an index that does not add up": (
        sealed(bytes(24), b"", kind=2, entries=1, shard=0, shards=1),
        "its shards do not decode to as many bytes",
    ),
    "nothing": (b"", "does not begin as"),
    "another file": (b"PK\3\4" * 30, "does not begin as"),
    "the beginning alone": (MAGIC, "it has 8 bytes"),
}


@pytest.mark.parametrize("case", CANNOT_BE)
def test_files_that_cannot_be(tmp_path, case):
    content, match = CANNOT_BE[case]
    (tmp_path / "x.chita").write_bytes(content)
    refused(tmp_path / "x.chita", match)
