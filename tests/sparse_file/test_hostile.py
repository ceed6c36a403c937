"""Files whose hashes are right, and that nevertheless cannot be."""

import json

import pytest
import torch
from safetensors.torch import save

import chita
from tests.sparse_file.forging import bytes_tensor, described, forged, one, refused, same_bits, told

U8 = "values/uint8"


def test_what_these_tests_forge_is_sound(tmp_path):
    path = tmp_path / "x.chita"
    path.write_bytes(forged(*one()))
    assert same_bits(chita.load(path), {"w": torch.tensor(list(b"12345678"), dtype=torch.uint8)})
    expected = torch.tensor([7, 0, 9, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)
    for coding, places in (("bitmask", b"\5\0"), ("gaps", b"\0\1")):
        path.write_bytes(forged(*one(coding, b"\7\x09", places, (9,))))
        assert same_bits(chita.load(path), {"w": expected})
    path.write_bytes(forged({}, {}))
    assert chita.load(path) == {}


BIG = 1 << 62
UNFIT = {
    "more values than numbers": (one(shape=(7,)), "'w': 7 numbers are not 8 values"),
    "fewer values than numbers": (one(shape=(9,)), "9 numbers are not 8 values"),
    "places of a dense one": (told(places=1), "8 numbers are not 8 values without places"),
    "a long bitmask": (one("bitmask", b"1", b"\1\0"), "2 bytes are no bitmask of 8"),
    "a short bitmask": (one("bitmask", b"1", b"\1", (9,)), "1 bytes are no bitmask of 9"),
    "too many bits": (one("bitmask", b"12", b"\7"), "3 bits are set for 2 values"),
    "too few bits": (one("bitmask", b"12", b"\1"), "1 bits are set for 2 values"),
    "a bit behind the end": (one("bitmask", b"", b"\0\2", (9,)), "bit is set behind the last"),
    "fewer gaps than values": (one("gaps", b"12", b"\0"), "gaps before 1 of 2 values"),
    "more gaps than values": (one("gaps", b"1", b"\0\0"), "gaps before 2 of 1 values"),
    "gaps without a value": (one("gaps", b"1", b"\xff\xff", (600,)), "before 0 of 1 values"),
    "gaps behind the end": (one("gaps", b"12", b"\5\5"), "gaps lead behind the last number"),
    "more gaps than numbers": (one("gaps", b"", b"\xff" * 9), "gaps lead behind the last"),
    "gaps that end early": (one("gaps", b"1", b"\5\xff", (600,)), "end before the last number"),
    "no gaps for zeros": (one("gaps", b"", b"", (255,)), "end before the last number"),
    "sizes beyond all memory": (one(shape=(BIG, BIG)), "more numbers than any memory holds"),
    "sizes around none": (one(numbers=b"", shape=(0, BIG, BIG)), "than any memory holds"),
    "a negative size": (one(shape=(-8,)), "not those of a sparse file"),
    "a name for a size": (one(shape=("x",)), "not those of a sparse file"),
    "negative values": (told(values=-8), "not those of a sparse file"),
    "an unknown type": (told(type="uint9"), "'uint9' is no type of numbers"),
    "a type of another kind": (told(type="nn"), "'nn' is no type of numbers"),
    "a coding": (told(coding="zip"), "not those of a sparse file"),
    "values of another part": (told(type="int8"), "its parts are not those of its tensors"),
    "more values than a part": (told(values=9), "its parts are not those of its tensors"),
    "fewer values than a part": (told(values=7), "its parts are not those of its tensors"),
    "no places": (told(coding="gaps"), "its parts are not those of its tensors"),
    "a part of no tensor": ((one()[0] | {"gaps": b"1"}, one()[1]), "its parts are not those"),
    "a part of another type": (
        ({U8: torch.ones(8, dtype=torch.int8)}, one()[1]),
        "its parts are not those",
    ),
    "a part in another shape": (
        ({U8: torch.ones(2, 4, dtype=torch.uint8)}, one()[1]),
        "its parts are not those",
    ),
    "as itself": (({}, {"w": "w"}), "'w' is the same as no tensor before it"),
    "as a later one": ((one()[0], {"v": "w"} | one()[1]), "'v' is the same as no tensor"),
    "half a description": ((one()[0], {"w": one()[1]["w"][:4]}), "not those of a sparse file"),
    "bool": (
        (
            {"values/bool": torch.tensor([2], dtype=torch.uint8).view(torch.bool)},
            {"w": ["dense", "bool", [1], 1, 0]},
        ),
        "neither False nor True",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_tensors_that_cannot_be(tmp_path, case):
    content, match = UNFIT[case]
    (tmp_path / "x.chita").write_bytes(forged(*content))
    refused(tmp_path / "x.chita", match, most=1 << 64)


def without_hash(**changes):
    """A file of one tensor whose metadata was changed afterwards."""
    parts = {U8: bytes_tensor(b"12345678")}
    return save(parts, {"chita": json.dumps(described(parts, one()[1]) | changes)})


CANNOT_BE = {
    "nothing": (b"", "header too small"),
    "another file": (b"PK\3\4" * 30, "header too large"),
    "no metadata": (save({"w": torch.ones(3)}), "have no entry 'chita'"),
    "no JSON": (save({}, {"chita": "{"}), "not those of a sparse file"),
    "no description": (save({}, {"chita": "[]"}), "not those of a sparse file"),
    "version": (forged(*one(), version=3), "not those of a sparse file of version 2"),
    "another field": (forged(*one(), wide=True), "not those of a sparse file"),
    "a narrow type": (forged(*one(), narrow="int8"), "not those of a sparse file"),
    "hashes": (without_hash(sha256="A" * 86), "another SHA-256"),
    "another name": (without_hash(tensors={"v": one()[1]["w"]}), "another SHA-256"),
    "version 1": (b"\x89CHITA\r\n" + bytes(80), r"version 1.*Export the network again"),
}


@pytest.mark.parametrize("case", CANNOT_BE)
def test_files_that_cannot_be(tmp_path, case):
    content, match = CANNOT_BE[case]
    (tmp_path / "x.chita").write_bytes(content)
    refused(tmp_path / "x.chita", match)


def test_a_file_of_version_1_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x89CHITA\r\n" + bytes(80))
    refused(tmp_path / "x.bin", "Export the network again")


def test_small_files_of_large_tensors_are_bounded(tmp_path):
    """Fifteen thousand times the same million numbers: 15 GB from less than half a megabyte."""
    path = tmp_path / "x.chita"
    parts, tensors = one("gaps", b"", b"\xff" * (10**6 // 255), (10**6,))
    path.write_bytes(forged(parts, tensors | {f"{n}": "w" for n in range(15_000)}))
    assert path.stat().st_size < 5e5
    message = refused(path, "15,001,000,000 bytes, and 1,048,576 are allowed.*max_bytes")
    assert "chita.load" in message
