"""Damaged and hostile files: one clear error each, in bounded memory."""

import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch

import chita
from chita.errors import CheckpointError
from chita.sparse_file.types import BY_NAME
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import (
    MOST,
    Row,
    bitmask,
    forged,
    gaps,
    refused,
    resealed,
    tensor_with,
)

SPARE = 60_000  # bytes of Python's own objects, and of the message


def tiny():
    """Tensors in every coding."""
    return {
        "dense": tensor_with(BY_NAME["int16"], (3, 3), 1.0, 1),
        "bits": tensor_with(BY_NAME["float32"], (5, 9), 0.4, 2),
        "gaps": tensor_with(BY_NAME["bfloat16"], (700,), 0.01, 3),
        "zeros": tensor_with(BY_NAME["float64"], (4000,), 0.0, 4),
        "same": tensor_with(BY_NAME["float32"], (5, 9), 0.4, 2),
        "mask": tensor_with(BY_NAME["bool"], (77,), 0.9, 5),
        "scalar": tensor_with(BY_NAME["int64"], (), 1.0, 6),
        "empty": torch.empty(0, 3),
        "narrow": torch.linspace(1, 2, 31) * (torch.arange(31) % 4 == 0),
    }


def bounded(path, content):
    """Whether such a file is refused; else it must hold what it says. Neither takes much memory."""
    path.write_bytes(content)
    told = struct.unpack_from("<Q", content, 32)[0] if len(content) >= 48 else 0
    tracemalloc.start()
    began = time.process_time()
    try:
        tensors = chita.load(path, max_bytes=MOST)
    except CheckpointError:
        return True
    finally:
        spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        allowed = told if told <= MOST else 0
        assert peak <= 2 * allowed + 2 * len(content) + SPARE, (peak, told, len(content))
        assert spent < 5
    assert sum(t.numel() * t.itemsize for t in tensors.values()) == told
    return False


def struck(content, draw):
    """A file with some of its bytes damaged."""
    way = draw.randrange(5)
    wrong = bytearray(content)
    if way == 0:
        for _ in range(draw.randint(1, 3)):
            wrong[draw.randrange(len(wrong))] ^= draw.randint(1, 255)
    elif way == 1:
        del wrong[draw.randrange(len(wrong)) :]
    elif way == 2:
        wrong += draw.randbytes(draw.randint(1, 40))
    elif way == 3:
        begin = draw.randrange(len(wrong))
        wrong[begin : begin + draw.randint(1, 30)] = draw.randbytes(draw.randint(1, 30))
    else:
        first, second = sorted(draw.sample(range(len(wrong)), 2))
        del wrong[first:second]
    return bytes(wrong)


EXTREMES = (0, 1, 7, 255, 256, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1)


def hostile(content, draw):
    """A file whose header was altered and given the checksum that it should have."""
    wrong = bytearray(content)
    (length,) = struct.unpack_from("<Q", content, 16)
    for _ in range(draw.randint(1, 2)):
        place = draw.randrange(8, length - 4)
        if draw.random() < 0.5:
            wrong[place] = draw.choice((0, 1, 2, 3, 4, 20, 64, 65, 127, 128, 254, 255))
        else:
            size = draw.choice((2, 4, 8))
            value = draw.choice(EXTREMES) & ((1 << 8 * size) - 1)
            end = min(place + size, length - 4)
            wrong[place:end] = value.to_bytes(size, "little")[: end - place]
    return resealed(bytes(wrong))


def twisted(draw):
    """A file of one tensor whose data were altered, all checksums right."""
    size = draw.randint(1, 900)
    numbers = np.zeros(size, np.uint8)
    numbers[draw.sample(range(size), draw.randint(0, size // 10))] = 9
    places = np.flatnonzero(numbers)
    make = draw.choice((bitmask, gaps))
    if make is bitmask:
        code = bytearray(np.packbits(numbers != 0, bitorder="little").tobytes())
    else:
        between = np.diff(places, prepend=-1) - 1
        code = bytearray(b"".join(b"\xff" * (g // 255) + bytes([g % 255]) for g in between))
        code += b"\xff" * ((size - 1 - (places[-1] if len(places) else -1)) // 255)
    if code:
        code[draw.randrange(len(code))] = draw.randrange(256)
    kind = draw.choice((12, 13))
    row = make(bytes(code), numbers[places].tobytes(), size, kind=kind, values=kind)
    return forged(row, decoded=size)


def strike(folder, times, seed):
    """Damage files so many times; return how many were hostile and nevertheless sound."""
    draw = random.Random(seed)
    write_sparse(tiny(), folder / "a.chita")
    narrow = {name: t for name, t in tiny().items() if name in {"narrow", "mask", "empty"}}
    write_sparse(narrow, folder / "b.chita", values="float16")
    write_sparse(tiny(), folder / "c.chita", shard_bytes=300)
    write_sparse({"w": torch.ones(2)}, folder / "d.chita")
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    sound = 0
    for number in range(times):
        path, content = draw.choice(list(whole.items()))
        if number % 2:
            wrong = struck(content, draw)
            if wrong != content:
                assert bounded(path, wrong), (number, wrong)
        else:
            wrong = hostile(content, draw) if number % 4 else twisted(draw)
            sound += not bounded(path, wrong)
        path.write_bytes(content)
    for name in "abcd":
        chita.load(folder / f"{name}.chita")
    return sound


def test_damaged_files(tmp_path):
    """What is not sound is refused; some altered headers are still those of another tensor."""
    assert strike(tmp_path, 600, seed=0) < 200


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    assert strike(tmp_path, 10_000, seed=1) < 3000


def test_a_file_cut_off_at_every_byte(tmp_path):
    path = tmp_path / "x.chita"
    write_sparse({"w": tensor_with(BY_NAME["float32"], (90,), 0.1, 0)}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path, "begin as|bytes")
    path.write_bytes(content + b"\0")
    refused(path, "says that it has")


def test_every_bit_counts(tmp_path):
    path = tmp_path / "x.chita"
    write_sparse({"w": torch.tensor([0.0, 0.0, 3.0])}, path)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        wrong = bytearray(content)
        wrong[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(wrong)
        refused(path)


def test_small_files_of_large_tensors_are_bounded(tmp_path):
    """Sixty thousand times the same million numbers: 60 GB from less than 2 MB."""
    path = tmp_path / "x.chita"
    between = b"\xff" * (10**6 // 255)
    twins = [
        Row(name=b"%d" % n, coding=3, count=0, sizes=(10**6,), data=b"") for n in range(60_000)
    ]
    path.write_bytes(
        forged(gaps(between, b"", 10**6), *twins, decoded=10**6 * 60_001, entries=60_001)
    )
    assert path.stat().st_size < 3e6
    tracemalloc.start()
    message = refused(path, "60,001,000,000 bytes, and 1,048,576 are allowed.*max_bytes")
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()
    assert "chita.load" in message


def test_what_is_allowed_is_the_memory_available(tmp_path, monkeypatch):
    write_sparse({"w": torch.zeros(1000)}, tmp_path / "x.chita")
    monkeypatch.setattr("chita.sparse_file.reading.available_memory", lambda: 3999)
    with pytest.raises(CheckpointError, match="4,000 bytes, and 3,999 are allowed"):
        chita.load(tmp_path / "x.chita")
    assert len(chita.load(tmp_path / "x.chita", max_bytes=4000)) == 1
    monkeypatch.setattr("chita.sparse_file.reading.available_memory", lambda: None)
    assert len(chita.load(tmp_path / "x.chita")) == 1


@pytest.mark.parametrize(
    ("name", "share", "values"),
    [("float32", 0.5, None), ("float32", 1.0, None), ("int8", 0.1, None), ("float32", 0.1, 1)],
)
def test_memory_of_sound_files(tmp_path, name, share, values):
    """Twice the bytes in memory and some megabytes; writing needs the places, and less."""
    tensors = {f"w{n}": tensor_with(BY_NAME[name], (3_000_000,), share, n).abs() for n in range(2)}
    if values:
        tensors = {n: (t != 0).float() for n, t in tensors.items()}
    size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    path = tmp_path / "x.chita"
    tracemalloc.start()
    write_sparse(tensors, path, values="float16" if values else None)
    assert tracemalloc.get_traced_memory()[1] < size / 8 + 2**24
    tracemalloc.stop()
    tracemalloc.start()
    chita.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2 * size + 2**23
    tracemalloc.stop()


def test_a_type_that_this_pytorch_lacks(tmp_path, monkeypatch):
    write_sparse({"w": torch.zeros(9).to(torch.float8_e5m2)}, tmp_path / "x.chita")
    monkeypatch.delattr(torch, "float8_e5m2")
    with pytest.raises(CheckpointError, match=r"no numbers of type float8_e5m2\. Install a newer"):
        chita.load(tmp_path / "x.chita")


def test_memory_that_is_not_there(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    write_sparse({"w": torch.ones(9)}, tmp_path / "x.chita")
    monkeypatch.setattr("chita.sparse_file.reading.np.zeros", full)
    refused(tmp_path / "x.chita", "needs more memory than there is")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        chita.load(tmp_path / "x.chita")
