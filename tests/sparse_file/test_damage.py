"""Damaged files: one clear error each, in bounded memory."""

import json
import random
import struct
import time
import tracemalloc

import pytest
import torch

import chita
from chita.errors import CheckpointError
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import (
    MOST,
    bytes_of,
    bytes_tensor,
    forged,
    refused,
    same_bits,
    tensor_with,
)

SPARE = 200_000  # bytes of Python's own objects, of descriptions, and of the message


def tiny():
    """Tensors in every coding."""
    return {
        "dense": tensor_with("int16", (3, 3), 1.0, 1),
        "bits": tensor_with("float32", (5, 9), 0.4, 2),
        "gaps": tensor_with("bfloat16", (700,), 0.01, 3),
        "zeros": tensor_with("float64", (4000,), 0.0, 4),
        "same": tensor_with("float32", (5, 9), 0.4, 2),
        "mask": tensor_with("bool", (77,), 0.9, 5),
        "scalar": tensor_with("int64", (), 1.0, 6),
        "empty": torch.empty(0, 3),
        "narrow": torch.linspace(1, 2, 31) * (torch.arange(31) % 4 == 0),
    }


def bounded(path, content):
    """The tensors of such a file, None where it is refused. Neither takes much memory or time."""
    path.write_bytes(content)
    tensors, peak = measured(path)
    held = sum(t.numel() * t.itemsize for t in (tensors or {}).values())
    allowed = 2 * held + 9 * len(content) + SPARE
    if peak > allowed:  # Python and PyTorch load something at the first use of it
        peak = measured(path)[1]
    assert peak <= allowed, (peak, held, len(content))
    assert held <= MOST
    return tensors


def measured(path):
    """The tensors of a file, None where it is refused, and the peak of memory."""
    tensors = None
    tracemalloc.start()
    began = time.process_time()
    try:
        tensors = chita.load(path, max_bytes=MOST)
    except CheckpointError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 600
        assert str(path) in message
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 5
    return tensors, peak


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


def edited(content, draw):
    """A file in whose header a number or a letter is another one, of the same length."""
    (length,) = struct.unpack_from("<Q", content)
    wrong = bytearray(content)
    letters = [i for i in range(8, 8 + length) if chr(content[i]).isalnum()]
    for place in draw.sample(letters, draw.randint(1, 3)):
        wrong[place] = draw.choice(b"0123456789ABCDEFabcdefghxyz")
    return bytes(wrong)


EXTREMES = (0, 1, 7, 255, 0xFFFF, 1 << 31, 1 << 40, 1 << 63, 1 << 64, 10**30, -1, 1.5, None, "w")


def hostile(content, draw):
    """A file whose description was altered and given the hashes that it should have."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    told = json.loads(header.pop("__metadata__")["chita"])
    data = content[8 + length :]
    parts = {name: bytearray(data[slice(*one["data_offsets"])]) for name, one in header.items()}
    for _ in range(draw.randint(1, 2)):
        if draw.random() < 0.3 and any(parts.values()):
            part = draw.choice([part for part in parts.values() if part])
            part[draw.randrange(len(part))] = draw.choice((0, 1, 2, 127, 128, 254, 255))
            continue
        row = draw.choice([row for row in told["tensors"].values() if isinstance(row, list)])
        place = draw.randrange(len(row))
        if place == 2 and row[2]:
            row[2][draw.randrange(len(row[2]))] = draw.choice(EXTREMES)
        else:
            row[place] = draw.choice((*EXTREMES, "gaps", "bitmask", "dense", "int8", "float64"))
    kinds = {name: name.partition("/")[2] or "uint8" for name in parts}
    tensors = {
        name: bytes_tensor(bytes(part)).view(getattr(torch, kinds[name]))
        for name, part in parts.items()
    }
    others = {key: told[key] for key in ("narrow",) if key in told}
    return forged(tensors, told["tensors"], **others)


def strike(folder, times, seed):
    """Damage files so many times; return how many were hostile and nevertheless sound."""
    draw = random.Random(seed)
    write_sparse(tiny(), folder / "a.chita")
    narrow = {name: t for name, t in tiny().items() if name in {"narrow", "mask", "empty"}}
    write_sparse(narrow, folder / "b.chita", values="float16")
    write_sparse({"w": torch.ones(2)}, folder / "c.chita")
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    sound = 0
    for number in range(times):
        path, content = draw.choice(list(whole.items()))
        if number % 2:
            wrong = struck(content, draw) if number % 4 == 1 else edited(content, draw)
            if wrong != content:
                found = bounded(path, wrong)
                assert found is None or harmless(content, wrong), (number, wrong)
        else:
            sound += bounded(path, hostile(content, draw)) is not None
        path.write_bytes(content)
    for path in whole:
        chita.load(path)
    return sound


def harmless(content, wrong):
    """Whether files differ in nothing but blanks behind the header."""
    (length,) = struct.unpack_from("<Q", content)
    heads = [one[8 : 8 + length].rstrip() for one in (content, wrong)]
    return heads[0] == heads[1] and content[8 + length :] == wrong[8 + length :]


def test_damaged_files(tmp_path):
    """What is not sound is refused; some altered descriptions are still those of a tensor."""
    assert strike(tmp_path, 300, seed=0) < 75


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    assert strike(tmp_path, 10_000, seed=1) < 2500


def test_a_file_cut_off_at_every_byte(tmp_path):
    path = tmp_path / "x.chita"
    write_sparse({"w": tensor_with("float32", (90,), 0.1, 0)}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content + b"\0")
    refused(path, "not fully covered")


def test_bits_of_every_byte_count(tmp_path):
    """Two or three of each byte; each of the eight places in a third of the bytes."""
    assert check_bits(tmp_path, step=3) > 1000


@pytest.mark.slow
def test_every_bit_counts(tmp_path):
    assert check_bits(tmp_path, step=1) > 3000


def check_bits(tmp_path, step):
    """Turn one bit after another; return how many were turned."""
    path = tmp_path / "x.chita"
    write_sparse({"w": torch.tensor([0.0, 0.0, 3.0])}, path)
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), step):
        wrong = bytearray(content)
        wrong[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(wrong)
        refused(path)
    return len(range(0, 8 * len(content), step))


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
    """Reading takes no more than the tensors and three times the largest, and two megabytes."""
    tensors = {f"w{n}": tensor_with(name, (750_000,), share, n).abs() for n in range(4)}
    if values:
        tensors = {n: (t != 0).float() for n, t in tensors.items()}
    size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    path = tmp_path / "x.chita"
    write_sparse(tensors, path, values="float16" if values else None)
    tracemalloc.start()
    chita.load(path)
    assert tracemalloc.get_traced_memory()[1] < size + 3 * size / 4 + 2**21
    tracemalloc.stop()


def test_tensors_keep_their_values_when_the_file_is_gone(tmp_path):
    tensors = {"w": torch.randn(1000), "v": torch.eye(50)}
    write_sparse(tensors, tmp_path / "x.chita")
    found = chita.load(tmp_path / "x.chita")
    (tmp_path / "x.chita").write_bytes(b"")
    assert same_bits(found, tensors)
    assert bytes_of(found["w"]) == bytes_of(tensors["w"])


def test_a_type_that_this_pytorch_lacks(tmp_path, monkeypatch):
    write_sparse({"w": torch.zeros(9).to(torch.float8_e5m2)}, tmp_path / "x.chita")
    monkeypatch.delattr(torch, "float8_e5m2")
    with pytest.raises(CheckpointError, match=r"no numbers of type float8_e5m2\. Install a newer"):
        chita.load(tmp_path / "x.chita")


def test_memory_that_is_not_there(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    write_sparse({"w": torch.zeros(900)}, tmp_path / "x.chita")
    monkeypatch.setattr("chita.sparse_file.reading.np.zeros", full)
    refused(tmp_path / "x.chita", "needs more memory than there is")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        chita.load(tmp_path / "x.chita")
