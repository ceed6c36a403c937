"""Shards, and what happens when files cannot be written."""

import resource
import struct
from pathlib import Path

import pytest
import torch

import chita
from chita.errors import CheckpointError, InputError, OutputError
from chita.sparse_file import writing
from chita.sparse_file.coding import Coding
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import Row, forged, same_bits, sealed
from tests.sparse_file.reference import read


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {f"layer.{n}.weight": torch.randn(10, 10 + n) for n in range(7)}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_shards_and_their_index(tmp_path, tensors):
    done = write_sparse(tensors, tmp_path / "net.chita", shard_bytes=1500)
    assert [file.name for file in done.files] == [
        "net.chita",
        *(f"net-0000{n}-of-00004.chita" for n in range(1, 5)),
    ]
    assert names_in(tmp_path) == sorted(file.name for file in done.files)
    assert all(file.stat().st_size <= 1500 for file in done.files)
    assert same_bits(chita.load(tmp_path / "net.chita"), tensors)
    assert list(read(tmp_path / "net.chita")) == list(tensors)
    alone = [chita.load(file) for file in done.files[1:]]
    assert [name for part in alone for name in part] == list(tensors)


def test_a_tensor_larger_than_a_shard_has_one_alone(tmp_path, tensors):
    done = write_sparse(tensors, tmp_path / "net.chita", shard_bytes=1)
    assert len(done.files) == 1 + len(tensors)
    assert same_bits(chita.load(tmp_path / "net.chita"), tensors)


def test_a_small_network_is_one_file(tmp_path, tensors):
    assert write_sparse(tensors, tmp_path / "net.chita").files == (tmp_path / "net.chita",)


def test_equal_tensors_in_two_shards_are_stored_in_both(tmp_path):
    weight = torch.randn(100)
    done = write_sparse(dict.fromkeys("abc", weight), tmp_path / "x.chita", shard_bytes=600)
    assert [entry.coding for entry in done.entries] == [0, Coding.SAME, Coding.SAME]
    done = write_sparse({"a": weight, "b": weight}, tmp_path / "z.chita", shard_bytes=500)
    assert [entry.coding for entry in done.entries] == [0, 0]  # 488 bytes, 520 with another entry
    assert same_bits(chita.load(tmp_path / "z.chita"), {"a": weight, "b": weight})
    other = {"a": weight, "x": torch.randn(100), "b": weight}
    done = write_sparse(other, tmp_path / "y.chita", shard_bytes=600)
    assert [entry.coding for entry in done.entries] == [0, 0, 0]
    assert same_bits(chita.load(tmp_path / "y.chita"), other)


def test_many_tensors_are_split_by_their_number(tmp_path, tensors, monkeypatch):
    monkeypatch.setattr(writing, "MOST", 3)
    assert len(write_sparse(tensors, tmp_path / "x.chita").files) == 4
    with pytest.raises(InputError, match=r"7 shards are more than 3. Raise shard_bytes"):
        write_sparse(tensors, tmp_path / "y.chita", shard_bytes=1)


def test_shards_that_are_not_those_of_the_index(tmp_path, tensors):
    path = tmp_path / "net.chita"
    done = write_sparse(tensors, path, shard_bytes=1500)
    second, third = done.files[2], done.files[3]
    content = second.read_bytes(), third.read_bytes()
    second.unlink()
    with pytest.raises(CheckpointError, match=r"net-00002-of-00004.chita. Copy all of them"):
        chita.load(path)
    second.write_bytes(content[1])
    with pytest.raises(CheckpointError, match=r"00002-of-00004.*the shard that net\.chita lists"):
        chita.load(path)
    third.write_bytes(content[0])
    with pytest.raises(CheckpointError, match="not the shard that"):
        chita.load(path)
    third.write_bytes(content[1])
    changed = {name: tensor + 1 for name, tensor in tensors.items()}
    (tmp_path / "other").mkdir()
    other = write_sparse(changed, tmp_path / "other/net.chita", shard_bytes=1500)
    assert other.files[2].stat().st_size == len(content[0])
    second.write_bytes(other.files[2].read_bytes())
    with pytest.raises(CheckpointError, match="not the shard that"):
        chita.load(path)
    second.write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="not the shard that"):
        chita.load(path)


def test_a_name_in_two_shards(tmp_path):
    table = b""
    for number in (1, 2):
        content = forged(Row(), shard=number, shards=2)
        (tmp_path / f"x-0000{number}-of-00002.chita").write_bytes(content)
        table += struct.pack("<QQI", len(content), 8, 1) + content[-12:-8]
    index = sealed(table, b"", kind=2, entries=2, decoded=16, shard=0, shards=2)
    (tmp_path / "x.chita").write_bytes(index)
    with pytest.raises(CheckpointError, match="'w' is in an earlier shard, too"):
        chita.load(tmp_path / "x.chita")


def test_existing_files_are_replaced_only_by_force(tmp_path, tensors):
    path = tmp_path / "x.chita"
    write_sparse(tensors, path)
    before = path.read_bytes()
    other = {"w": torch.ones(3)}
    with pytest.raises(OutputError, match=r"x.chita exists.*force=True"):
        write_sparse(other, path)
    assert path.read_bytes() == before
    write_sparse(other, path, force=True)
    assert same_bits(chita.load(path), other)
    (tmp_path / "y.chita").mkdir()
    with pytest.raises(OutputError, match="exists"):
        write_sparse(other, tmp_path / "y.chita", force=True)
    (tmp_path / "z-00002-of-00002.chita").write_text("mine")
    with pytest.raises(OutputError, match=r"z-00002-of-00002\.chita exists"):
        write_sparse({"a": torch.ones(9), "b": torch.ones(9)}, tmp_path / "z.chita", shard_bytes=1)
    assert (tmp_path / "z-00002-of-00002.chita").read_text() == "mine"


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("shard_bytes", [1500, 10**9])
def test_a_full_disk_leaves_things_as_they_were(tmp_path, tensors, existing, shard_bytes):
    """No file may be longer than 1,000 bytes here, by the system's own limit."""
    folder = tmp_path / "new" / "deep"
    if existing:
        write_sparse(tensors, folder / "x.chita", shard_bytes=shard_bytes)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"could not be written.*free space"):
            write_sparse(tensors, folder / "x.chita", shard_bytes=shard_bytes, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if existing:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        assert not list(tmp_path.iterdir())


def test_when_a_shard_cannot_be_put_in_its_place_none_is(tmp_path, tensors, monkeypatch):
    replace = Path.replace

    def fails_for_one(self, target):
        if "00002-of" in target.name:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_one)
    with pytest.raises(OutputError, match="Input/output error"):
        write_sparse(tensors, tmp_path / "x.chita", shard_bytes=1500)
    assert not names_in(tmp_path)


@pytest.mark.parametrize("name", ["x.bin", "x", ".chita", "x.chita/"])
def test_names_of_files(tmp_path, name):
    if name == "x.chita/":
        write_sparse({}, tmp_path / name)
        assert chita.load(tmp_path / "x.chita") == {}
        return
    with pytest.raises(OutputError, match=r"Give one that ends in \.chita"):
        write_sparse({}, tmp_path / name)


def test_paths_that_no_file_system_takes(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("a" * 300 + ".chita", "a\0.chita", "file/x.chita"):
        with pytest.raises(OutputError, match="could not be written"):
            write_sparse({"w": torch.ones(2)}, tmp_path / name)
    assert names_in(tmp_path) == ["file"]


def test_what_no_sparse_file_holds_is_named_at_once(tmp_path):
    weird = torch.tensor([0, 2], dtype=torch.uint8).view(torch.bool)
    wrong = {
        "a": 3.0,
        "b": torch.ones(2).to_sparse(),
        "c": torch.ones(2, device="meta"),
        "d": torch.ones(2, dtype=torch.complex128),
        5: torch.ones(2),
        "e\ud800": torch.ones(2),
        "f" * 70_000: torch.ones(2),
        "g": weird,
    }
    with pytest.raises(InputError) as caught:
        write_sparse(wrong, tmp_path / "x.chita")
    message = str(caught.value)
    for part in (
        "'a': it is of type float",
        "'b': it is sparse",
        "'c': it is sparse, quantised or without values",
        "'d': its type is torch.complex128",
        "'5': its name is of type int",
        "name cannot be written in UTF-8",
        "its name takes more than 65535 bytes",
        "'g': it holds bytes that are neither",
    ):
        assert part in message, part
    assert len(message) < 1500
    assert not names_in(tmp_path)


@pytest.mark.parametrize("wrong", [0, -5, True, 1.5, "1 GB"])
def test_sizes_of_shards(tmp_path, wrong):
    with pytest.raises(InputError, match="give the bytes of a file, above 0"):
        write_sparse({}, tmp_path / "x.chita", shard_bytes=wrong)
