"""What is refused is refused before the work: the samples that a network is shown are counted."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.errors import InputError, OutputError
from chita.progress import Silent
from chita.pruning import room
from tests.pruning.cases import GIVEN

IMAGES, Y = digits()[0].first(300).parts[0]
X = IMAGES.flatten(1)
FISHER = chita.Fisher(samples=60)
LAYERS = {"solver": "wanda", "stages": 1, "quadratic": chita.Quadratic()}
TRAINED = {"training": chita.Training(epochs=2, events=2), "stages": 1}
SMOOTHED = chita.Training(epochs=2, events=1, label_smoothing=0.1)
LEVELS = {"budget": chita.Searched(chita.Sparsity(0.5)), "stages": 1}
USUAL = {**GIVEN, "budget": "sparsity=0.5", "stages": 2, "fisher": FISHER}
OLDER = "holds the finished part of an earlier run"


def network(outputs=10):
    torch.manual_seed(0)
    parts = nn.Linear(64, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, outputs)
    return nn.Sequential(*parts).eval()


class Uncalled(nn.Module):
    """A network that computes with the weights of its layer, and never calls it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return x @ self.layer.weight.T


def centred(model, batch):
    """A loss that depends on the order of the samples."""
    outputs = model(batch[0])
    return (outputs * torch.arange(len(outputs))[:, None]).mean()


def halved():
    model = network()
    model[0].weight.data /= 2
    return model


def frozen():
    return network().requires_grad_(False)


NOTHING = [  # refused before any pass
    ({"older": True}, OLDER),
    ({"older": True, "stages": 1}, OLDER),
    ({"older": True, **LAYERS}, OLDER),
    ({"older": True, **TRAINED}, OLDER),
    ({"older": "resume", "budget": "sparsity=0.7"}, "`sparsity` was 0.5 and is 0.7"),
    ({"older": "resume", "model": halved}, "a network with other weights"),
    ({"older": "resume", "fisher": chita.Fisher(samples=50)}, "was 60 and is 50"),
    ({"budget": "nnz=1000000"}, "weights to keep out of"),
    ({"fisher": chita.Fisher(samples=9000)}, "need 9000 samples"),
    ({"quadratic": chita.Quadratic(), "validation": 0}, "`validation` is 0, but auto chooses by"),
    ({"budget": "sparsity=0.95 & min_keep=64", **TRAINED}, "keep"),
]  # fmt: skip
A_FEW = [  # refused after passes of a few samples
    ({"data": (X, X[:, :10])}, "are no probabilities of classes"),
    ({"data": (X, Y + 5)}, "the network has 10 classes"),
    ({"evaluation": (X, Y + (Y == 9))}, "the network has 10 classes"),
    ({"evaluation": (X, X[:, :10])}, "are no probabilities of classes"),
    ({"model": partial(network, 1)}, "There must be two classes or more"),
    ({"loss": centred}, "depends on the order"),
    ({"full": True}, "a run may take 0.0 GB"),
    ({"full": True, "budget": chita.MaxLoss(1), "stages": 1}, "a run may take 0.0 GB"),
    ({"full": True, **LEVELS}, "a run may take 0.0 GB"),
    ({"model": frozen, **TRAINED}, "so there is nothing to train"),
    ({"model": frozen, **TRAINED, **LEVELS}, "so there is nothing to train"),
    ({**LEVELS, "training": SMOOTHED, "loss": centred}, "label_smoothing is for cross_entropy"),
    ({**LAYERS, "model": Uncalled}, "layer.weight is never called"),
    ({**LAYERS, "model": Uncalled, "budget": chita.ByOutliers(0.5)}, "weight is never called"),
]


class Stopping(Silent):
    """Progress that stops a run when all but the measuring is done."""

    def start(self, task, total, unit):
        if task.startswith("evaluate"):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The file of an earlier run, which was stopped."""
    file = tmp_path_factory.mktemp("older") / "unfinished"
    options = {**USUAL, "checkpoint": file, "evaluation": (X, Y), "progress": Stopping()}
    with pytest.raises(KeyboardInterrupt):
        chita.prune(network(), (X, Y), **options)
    return file.read_bytes()


def counting(sizes):
    """Return a hook that adds the samples of a pass; one of shapes alone has none."""
    return lambda _, args: None if args[0].is_meta else sizes.append(len(args[0]))


def shown_before(told, options, file):
    """Return the samples of each pass of a network before a run of it is refused."""
    options = {**USUAL, "data": (X, Y), "evaluation": (X[:200], Y[:200]), **options}
    model, data, sizes = options.pop("model", network)(), options.pop("data"), []
    model.register_forward_pre_hook(counting(sizes))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=told):
        chita.prune(model, data, checkpoint=file, **options)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return sizes


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("options", "told"), NOTHING)
def test_nothing_is_shown(options, told, inplace, older, tmp_path):
    options, file = dict(options), tmp_path / "unfinished"
    kind = options.pop("older", None)
    if kind:
        file.write_bytes(older)
    options = {**options, "inplace": inplace}
    checkpoint = chita.Checkpoint(file, resume=kind == "resume")
    assert shown_before(told, options, checkpoint) == []
    assert file.exists() == bool(kind)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("options", "told"), A_FEW)
def test_a_few_samples_are_shown(options, told, inplace, monkeypatch):
    options = {**options, "inplace": inplace}
    if options.pop("full", False):
        monkeypatch.setattr(room, "available_memory", lambda: -1)
    sizes = shown_before(told, options, None)
    assert 0 < sum(sizes) <= 40, sizes  # of 200 that are measured, 60 that make gradients


def test_a_folder_that_takes_no_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    sizes = []
    model = network()
    model.register_forward_pre_hook(counting(sizes))
    with pytest.raises(OutputError, match="cannot be used"):
        chita.prune(model, (X, Y), checkpoint=tmp_path / "file" / "unfinished", **USUAL)
    assert sizes == []


def test_the_order_of_samples_is_checked_once_in_a_run(monkeypatch):
    """Pilot runs, stages and training are parts of it."""
    checked = []
    monkeypatch.setattr("chita.collect.sample_parts.check_order", lambda *_: checked.append(1))
    options = {"sparsity": 0.5, "fisher": FISHER}
    chita.prune(network(), (X, Y), stages=2, **options)
    assert len(checked) == 1
    chita.prune(network(), (X, Y), **TRAINED, **options)
    assert len(checked) == 2
