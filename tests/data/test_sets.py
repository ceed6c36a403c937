import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from chita.data.examples import Examples
from chita.data.images import ImageFolder
from chita.data.sets import DATASETS, load_dataset
from chita.errors import InputError
from chita.image_format import IMAGENET_MEAN, IMAGENET_STD, ImageFormat

SOURCE = """
import torch

PAIR = torch.zeros(3, 2), torch.zeros(3)

def two():
    return PAIR, (torch.ones(2, 2), torch.ones(2))

def one():
    return PAIR, None

def batches():
    return [PAIR, PAIR], None

def nothing():
    return None

def empty():
    return None, PAIR

def three():
    return PAIR, PAIR, PAIR

def listed():
    return [PAIR, PAIR]

def fails():
    raise RuntimeError("no such disk")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_data_of_test.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield "own_data_of_test"
    sys.modules.pop("own_data_of_test", None)


def image():
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 51, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", ["images", "images.zip", "IMAGES.ZIP", "images.png"])
def test_images_by_folder_or_zip(tmp_path, name):
    names = [f"{part}/{kind}/1.png" for part in ("train", "test") for kind in "ab"]
    path = tmp_path / name
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(path, "w") as file:
            for entry in names:
                file.writestr(entry, image())
    else:
        for entry in names:
            (path / entry).parent.mkdir(parents=True)
            (path / entry).write_bytes(image())
    grey = ImageFormat(mean=(0.0,), std=(0.1,))
    calibration, evaluation = load_dataset(str(path), images=grey)
    assert isinstance(evaluation, ImageFolder)
    images, targets = calibration.take(torch.arange(2)).batch
    assert torch.allclose(images, torch.full((2, 1, 4, 4), 2.0))
    assert targets.tolist() == [0, 1]
    usual = load_dataset(str(path))[0].take(torch.tensor([0])).batch[0]
    truth = (0.2 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(usual[0, :, 0, 0], truth, atol=1e-6)


@pytest.mark.parametrize("name", ["data.npz", "data.pt", "data.PT", "data.NPZ"])
def test_files_of_tensors(tmp_path, name):
    path = tmp_path / name
    x, y = torch.zeros(10, 2), torch.arange(10)
    with path.open("wb") as file:
        if name.lower().endswith("npz"):
            np.savez(file, inputs=x.numpy(), targets=y.numpy())
        else:
            torch.save((x, y), file)
    calibration, evaluation = load_dataset(str(path))
    assert (len(calibration), len(evaluation)) == (8, 2)


def test_named_sets_read_their_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "known", lambda folder: (folder, None))
    assert load_dataset("known", tmp_path) == (tmp_path, None)
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)  # a name in the table goes before a folder of that name
    assert isinstance(load_dataset("digits")[0], Examples)


def test_a_function_of_ones_own(own):
    calibration, evaluation = load_dataset(f"{own}:two")
    assert len(calibration[0]) == 3
    assert torch.equal(evaluation[0], torch.ones(2, 2))
    assert load_dataset(f"{own}:one")[1] is None
    assert len(load_dataset(f"{own}:batches")[0]) == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "returned a NoneType; it must return"),
        ("empty", "returned a tuple; it must return"),
        ("three", "returned a tuple; it must return"),
        ("listed", "returned a list; it must return"),
        ("fails", "fails: RuntimeError: no such disk"),
        ("PAIR", "is a tuple; it must be a function"),
        ("tow", "Did you mean two"),
    ],
)
def test_a_function_that_gives_no_data(own, name, told):
    with pytest.raises(InputError, match=told):
        load_dataset(f"{own}:{name}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digts", r"Unknown data 'digts'. Did you mean digits.*package\.module:function"),
        ("absent/folder", r"absent/folder do not exist. Check `data`"),
        ("absent.npz", r"absent\.npz do not exist"),
        ("absent.zip", r"absent\.zip do not exist"),
        ("absent_of_test.data:f", "'absent_of_test.data' cannot be imported"),
        ("here.csv", r"here\.csv is a file of no known kind; known: \.zip, \.npz, \.pt"),
        ("here", r"here is a file of no known kind"),
    ],
)
def test_what_names_no_data(tmp_path, monkeypatch, name, told):
    (tmp_path / "here.csv").write_text("1,2")
    (tmp_path / "here").write_text("1,2")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        load_dataset(name)
