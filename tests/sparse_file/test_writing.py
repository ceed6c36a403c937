"""Files that exist or cannot be written, and what no file holds."""

import resource
from pathlib import Path

import pytest
import torch

import chita
from chita.errors import InputError, OutputError
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import same_bits


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {f"layer.{n}.weight": torch.randn(10, 10 + n) for n in range(7)}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_things_as_they_were(tmp_path, tensors, existing):
    """No file may be longer than 1,000 bytes here, by the system's own limit."""
    folder = tmp_path / "new" / "deep"
    if existing:
        write_sparse(tensors, folder / "x.chita")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"could not be written.*free space"):
            write_sparse(tensors, folder / "x.chita", force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if existing:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_put_in_its_place(tmp_path, tensors, monkeypatch):
    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputError, match="Input/output error"):
        write_sparse(tensors, tmp_path / "x.chita")
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
        "'g': it holds bytes that are neither",
    ):
        assert part in message, part
    assert len(message) < 1500
    assert not names_in(tmp_path)


def test_many_tensors_with_long_names(tmp_path):
    tensors = {f"{'name' * 20_000}.{n}": torch.full((2,), float(n)) for n in range(50)}
    write_sparse(tensors, tmp_path / "x.chita")
    assert same_bits(chita.load(tmp_path / "x.chita"), tensors)
