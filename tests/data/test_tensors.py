import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chita.data import tensors
from chita.data.tensors import SUFFIXES, tensor_file
from chita.errors import CheckpointError, ChitaError, InputError


def content(count=10, evaluation=0):
    """Inputs (N, 2) whose first entry is the target."""
    found = {"inputs": torch.arange(2.0 * count).reshape(-1, 2), "targets": torch.arange(count) * 2}
    if evaluation:
        found["evaluation_inputs"] = -torch.arange(2.0 * evaluation).reshape(-1, 2)
        found["evaluation_targets"] = torch.arange(evaluation)
    return found


def write(path, found):
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in found.items()})
    elif path.suffix == ".safetensors":
        save_file(found, path)
    else:
        torch.save(found, path)
    return path


@pytest.fixture(params=SUFFIXES)
def file(request, tmp_path):
    return tmp_path / f"data{request.param}"


def test_four_tensors_as_they_are(file):
    found = content(10, evaluation=3)
    parts = tensor_file(write(file, found))
    for part, prefix in zip(parts, ("", "evaluation_"), strict=True):
        assert torch.equal(part.batch[0], found[f"{prefix}inputs"])
        assert torch.equal(part.batch[1], found[f"{prefix}targets"])


def test_a_fifth_is_held_out_with_pairs_together(file):
    calibration, evaluation = tensor_file(write(file, content(23)))
    assert (len(calibration), len(evaluation)) == (19, 4)
    together = torch.cat([calibration.batch[1], evaluation.batch[1]])
    assert together.sort().values.tolist() == list(range(0, 46, 2))
    for part in (calibration, evaluation):
        assert torch.equal(part.batch[0][:, 0].long(), part.batch[1])
    assert torch.equal(tensor_file(file)[1].batch[1], evaluation.batch[1])


def test_too_few_to_hold_one_out(file):
    with pytest.raises(InputError, match="4 samples are too few to hold one in 5 out"):
        tensor_file(write(file, content(4)))
    assert len(tensor_file(write(file, content(5)))[1]) == 1
    assert len(tensor_file(write(file, content(1, evaluation=1)))[0]) == 1


@pytest.mark.parametrize(
    ("inputs", "targets", "read"),
    [
        (torch.float64, torch.int32, (torch.float32, torch.int64)),
        (torch.float32, torch.int64, (torch.float32, torch.int64)),
        (torch.float16, torch.uint8, (torch.float16, torch.int64)),
        (torch.int32, torch.bool, (torch.int32, torch.int64)),
        (torch.int64, torch.float64, (torch.int64, torch.float32)),
        (torch.uint8, torch.float32, (torch.uint8, torch.float32)),
    ],
)
def test_types_become_the_usual_ones(file, inputs, targets, read):
    found = content(5, evaluation=5)
    given = {n: t.to(inputs if n.endswith("inputs") else targets) for n, t in found.items()}
    for part in tensor_file(write(file, given)):
        assert tuple(tensor.dtype for tensor in part.batch) == read
    whole = tensor_file(file)[0].batch
    assert torch.equal(whole[0], given["inputs"].to(read[0]))
    assert torch.equal(whole[1], given["targets"].to(read[1]))


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_torch_file_of_a_pair(tmp_path, kind):
    found = content(10)
    torch.save(kind([found["inputs"], found["targets"]]), tmp_path / "data.pt")
    parts = tensor_file(tmp_path / "data.pt")
    expected = tensor_file(write(tmp_path / "data.safetensors", found))
    assert [part.digest() for part in parts] == [part.digest() for part in expected]


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        (3, "holds a int. Save a dict of tensors"),
        (torch.zeros(3), "holds a Tensor. Save a dict of tensors"),
        ((torch.zeros(3), [0, 1, 2]), "holds a tuple. Save a dict"),
        ((torch.zeros(3), torch.zeros(3), torch.zeros(3)), "holds a tuple"),
        ({}, "holds nothing; it must hold inputs and targets"),
        ({"inputs": torch.zeros(3), "targets": [1, 2, 3]}, "holds inputs; it must"),
    ],
)
def test_torch_files_of_other_things(tmp_path, inside, told):
    torch.save(inside, tmp_path / "data.pt")
    with pytest.raises(InputError, match=rf"data\.pt {told}"):
        tensor_file(tmp_path / "data.pt")


def test_what_else_lies_in_a_file_does_not_matter(file):
    found = {**content(5), "epoch": torch.tensor(3), "zz": torch.tensor([float("nan")])}
    assert len(tensor_file(write(file, found))[0]) == 4


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"inputs": "X", "targets": "y"}, r"holds X, y"),
        ({"targets": "labels"}, r"holds inputs, labels"),
        ({"evaluation_inputs": "other"}, r"holds inputs, targets, other, evaluation_targets"),
        ({"evaluation_targets": "other"}, r"holds inputs, targets, evaluation_inputs, other"),
    ],
)
def test_missing_names_are_told_with_those_there_are(file, names, told):
    found = content(5, evaluation=5)
    if "inputs" in names or "targets" in names:
        found = content(5)
    path = write(file, {names.get(name, name): tensor for name, tensor in found.items()})
    with pytest.raises(InputError) as caught:
        tensor_file(path)
    listed = str(caught.value).split(" holds ")[1].split(";")[0].split(", ")
    assert sorted(listed) == sorted(told.removeprefix("holds ").split(", "))
    assert "must hold inputs and targets, and may hold both of evaluation_inputs" in str(
        caught.value
    )


@pytest.mark.parametrize("which", ["", "evaluation_"])
def test_as_many_inputs_as_targets(file, which):
    found = content(6, evaluation=6)
    found[f"{which}targets"] = found[f"{which}targets"][:5].clone()
    with pytest.raises(InputError, match=rf"6 {which}inputs and 5 {which}targets; there must be"):
        tensor_file(write(file, found))


def test_a_single_number_is_no_samples(file):
    with pytest.raises(InputError, match=r"data\..*: targets is a single number"):
        tensor_file(write(file, {"inputs": torch.zeros(3), "targets": torch.tensor(1)}))


def test_values_that_are_not_finite_are_refused(file):
    found = content(6)
    found["inputs"][3, 1] = float("inf")
    with pytest.raises(InputError, match="NaN or infinite"):
        tensor_file(write(file, found))


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9, -1])
def test_files_that_are_cut_off(file, kept):
    whole = write(file, content(200)).read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ChitaError, match=file.name):
        tensor_file(file)


def test_files_of_another_kind(file):
    for junk in (
        b"hello world, this is no tensor",
        b"PK\3\4 and then nothing of a zip",
        b"\x93NUMPY",
    ):
        file.write_bytes(junk)
        with pytest.raises(ChitaError, match=file.name):
            tensor_file(file)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path):
    """A file that hostile pickles make; here it is shown that they would."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Hostile(path)))
    assert path.exists()
    path.unlink()
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_code_in_a_torch_file_does_not_run(tmp_path, marker, suffix):
    path = tmp_path / f"data{suffix}"
    torch.save({**content(), "more": Hostile(marker)}, path)
    with pytest.raises(CheckpointError, match=r"would run code.*Save a dict of tensors only"):
        tensor_file(path)
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(CheckpointError, match=path.name):
        tensor_file(path)
    torch.save({**content(), "more": Hostile(marker)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=path.name):
        tensor_file(path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_code_in_other_files_does_not_run(tmp_path, marker, suffix):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(InputError, match=path.name):
        tensor_file(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_objects_in_an_npz_are_refused_without_unpickling(tmp_path, marker, name):
    arrays = {"inputs": np.zeros((5, 2)), "targets": np.zeros(5)}
    arrays[name] = np.array([Hostile(marker)] * 5, dtype=object)
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=r"data\.npz cannot be read: Object arrays cannot"):
        tensor_file(tmp_path / "data.npz")
    assert not marker.exists()


@pytest.mark.parametrize(
    "strange", [np.array(list("abcde")), np.zeros(5, "M8[s]"), np.zeros(5, [("a", "f4")])]
)
def test_arrays_of_no_numbers(tmp_path, strange):
    np.savez(tmp_path / "data.npz", inputs=np.zeros((5, 2)), targets=strange)
    with pytest.raises(InputError, match=r"data\.npz: targets hold no numbers"):
        tensor_file(tmp_path / "data.npz")


@pytest.mark.parametrize("kind", [">f4", np.longdouble])
def test_numbers_that_torch_does_not_know(tmp_path, kind):
    np.savez(tmp_path / "data.npz", inputs=np.zeros((5, 2), kind), targets=np.zeros(5))
    with pytest.raises(InputError, match=r"data\.npz cannot be read"):
        tensor_file(tmp_path / "data.npz")


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, inputs=np.zeros((1000, 500)), targets=np.zeros(1000))
    unpacked = sum(entry.file_size for entry in zipfile.ZipFile(path).infolist())
    assert unpacked > 100 * path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "available_memory", lambda: 2 * unpacked - 2)
        patch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
        with pytest.raises(InputError, match=rf"to {unpacked} bytes.*half of the free memory"):
            tensor_file(path)
    for room in (2 * unpacked, None):
        monkeypatch.setattr(tensors, "available_memory", lambda room=room: room)
        assert len(tensor_file(path)[0]) == 800


def npz_of(path, header):
    """An npz whose inputs have any header, and 80 bytes of numbers."""
    array = io.BytesIO()
    np.save(array, np.zeros(5))
    with zipfile.ZipFile(path, "w") as file:
        text = header.encode().ljust(117) + b"\n"
        file.writestr("inputs.npy", b"\x93NUMPY\1\0" + bytes([118, 0]) + text + bytes(80))
        file.writestr("targets.npy", array.getvalue())
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (11,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (10,), }",
        "__import__('os').getcwd()",
        "{",
    ],
)
def test_headers_that_lie(tmp_path, header):
    path = npz_of(tmp_path / "data.npz", header)
    with pytest.raises(InputError, match=r"data\.npz cannot be read"):
        tensor_file(path)


def test_a_header_that_tells_the_truth(tmp_path):
    """That the files of the test above fail for their headers alone."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (5, 2), }"
    assert len(tensor_file(npz_of(tmp_path / "data.npz", header))[0]) == 4


def test_an_npz_damaged_inside_or_encrypted(tmp_path):
    path = tmp_path / "data.npz"
    noise = np.random.RandomState(0).randint(0, 9, (500, 2))
    np.savez_compressed(path, inputs=noise, targets=noise[:, 0])
    whole = path.read_bytes()
    assert len(tensor_file(path)[0]) == 400
    for at in range(60, 400, 20):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"data\.npz"):
            tensor_file(path)
    secret = bytearray(whole)
    secret[6] |= 1
    secret[secret.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(bytes(secret))
    with pytest.raises(InputError, match=r"data\.npz cannot be read.*encrypted"):
        tensor_file(path)
