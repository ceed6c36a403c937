import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import chita.data.digits
from chita.data import vision
from chita.data.digits import digits
from chita.data.examples import Examples, as_examples
from chita.data.sampler import draw, make_sampler
from chita.data.sets import load_dataset
from chita.data.vision import mnist
from chita.errors import InputError

FILES = {
    "train-images-idx3-ubyte": (7, 28, 28),
    "train-labels-idx1-ubyte": (7,),
    "t10k-images-idx3-ubyte": (3, 28, 28),
    "t10k-labels-idx1-ubyte": (3,),
}


def write_idx(path, array, *, packed):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_mnist(folder, *, packed):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(0)
    arrays = {name: random.randint(0, 10, shape).astype(np.uint8) for name, shape in FILES.items()}
    for name, array in arrays.items():
        write_idx(folder / name, array, packed=packed)
    return arrays


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("under", [".", "MNIST/raw"])
def test_mnist_from_idx_files(tmp_path, packed, under):
    arrays = write_mnist(tmp_path / under, packed=packed)
    train, test = mnist(tmp_path)
    assert train.batch[0].shape == (7, 1, 28, 28)
    assert test.batch[1].tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    pixels = train.batch[0][:, 0] * 0.3081 + 0.1307
    assert torch.allclose(pixels * 255, torch.from_numpy(arrays["train-images-idx3-ubyte"]).float())


def test_absent_files_are_all_named(tmp_path):
    write_mnist(tmp_path, packed=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError) as caught:
        mnist(tmp_path)
    assert all(name in str(caught.value) for name in FILES)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-1], lambda c: b"", lambda c: b"\1" + c[1:], lambda c: c + b"0", lambda c: c[:6]],
)
def test_damaged_files_are_named(tmp_path, damage):
    write_mnist(tmp_path, packed=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="train-labels-idx1-ubyte is not an idx file"):
        mnist(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, packed):
    write_mnist(tmp_path, packed=packed)
    monkeypatch.setattr(vision, "_LARGEST", 1000)
    with pytest.raises(InputError, match="unpacks to more than 1000 bytes"):
        mnist(tmp_path)


def test_a_cut_gzip_is_named(tmp_path):
    write_mnist(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        mnist(tmp_path)


@pytest.mark.data
def test_the_real_mnist(data_dir):
    train, test = load_dataset("mnist", data_dir)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert test.batch[1][:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(float(train.batch[0].mean())) < 1e-3
    assert abs(float(train.batch[0].std()) - 1) < 1e-3


def test_digits_are_split_for_good():
    calibration, evaluation = digits()
    assert (len(calibration), len(evaluation)) == (1297, 500)
    everything = torch.cat([calibration.batch[0], evaluation.batch[0]]).flatten(1)
    assert len(everything) == 1797
    assert everything.min() == -1
    assert everything.max() == 1
    assert torch.equal(digits()[0].batch[0], calibration.batch[0])


def test_the_digits_are_those_of_scikit_learn():
    with np.load(Path(chita.data.digits.__file__).with_name("digits.npz")) as file:
        images, labels = file["images"], file["labels"]
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    assert np.array_equal(images, theirs.data)
    assert np.array_equal(labels, theirs.target)


def test_unknown_data():
    with pytest.raises(InputError, match="Did you mean mnist"):
        load_dataset("mnst")


def numbered(count):
    return Examples((torch.arange(count).float().unsqueeze(1), torch.arange(count)))


def test_a_draw_is_without_replacement_and_by_seed():
    data = numbered(50)
    first = draw(data, 30, seed=1)
    assert len(set(first.batch[1].tolist())) == 30
    assert torch.equal(first.batch[0][:, 0].long(), first.batch[1])
    assert torch.equal(first.batch[1], draw(data, 30, seed=1).batch[1])
    assert not torch.equal(first.batch[1], draw(data, 30, seed=2).batch[1])
    assert torch.equal(draw(data.batch, 30, 1).batch[1], first.batch[1])


def test_batches_are_taken_in_their_order():
    batches = list(numbered(10).batches(4))
    assert draw(batches, 7, seed=0).batch[1].tolist() == list(range(7))
    with pytest.raises(InputError, match=r"need 11 samples.* hold 10"):
        draw(batches, 11, seed=0)
    with pytest.raises(InputError, match="a Tensor"):
        draw(torch.zeros(3), 1, seed=0)
    with pytest.raises(InputError, match="hold 0"):
        draw([], 1, seed=0)


def test_examples_are_checked():
    with pytest.raises(InputError, match="at least one"):
        Examples((torch.zeros(0), torch.zeros(0)))
    with pytest.raises(InputError, match="NaN"):
        Examples((torch.tensor([float("nan")]), torch.zeros(1)))
    with pytest.raises(InputError, match="meta device"):
        Examples(torch.zeros(2, device="meta"))


PACKED = {
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "nested by jagged": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    "quantised": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
    "sparse": torch.Tensor.to_sparse,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PACKED)
def test_tensors_without_samples_are_refused_by_name(kind):
    batch = {"x": PACKED[kind](torch.eye(4)), "y": torch.arange(4)}
    told = rf"hold {kind.split()[0]} tensors, as batch\['x'\]; give"
    with pytest.raises(InputError, match=told):
        make_sampler(as_examples(batch), seed=0)
    with pytest.raises(InputError, match=told):
        make_sampler([batch, batch], seed=0).draw(8)


def test_a_digest_sees_every_bit():
    data = numbered(5)
    assert data.digest() == numbered(5).digest()
    assert data.digest() != data.take(torch.tensor([1, 0, 2, 3, 4])).digest()
    assert data.digest() != Examples((data.batch[0], data.batch[1].int())).digest()
