"""New statistics of batch norms are taken only where the validation loss does not rise."""

from math import inf, isfinite, nan

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.data.examples import Examples
from chita.models.prunable import prunable_layout
from chita.progress import Silent
from chita.pruning.calibration import Calibration, Sampling


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


class Losses:
    """A validation loss that is known beforehand, time after time."""

    def __init__(self, *losses):
        self.losses = list(losses)

    def __len__(self):
        return 10

    def present(self, advance):
        advance(10)
        return self.losses.pop(0)


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        (1.0, 0.5, True),
        (1.0, 1.0, True),
        (1.0, 1.5, False),
        (nan, 1.0, True),
        (inf, 1.0, True),
        (1.0, nan, False),
        (1.0, inf, False),
        (nan, nan, False),
        (inf, inf, False),
    ],
)
def test_statistics_are_taken_where_the_loss_is_finite_and_no_higher(before, after, taken):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    given = Examples((torch.randn(20, 3), torch.randint(4, (20,))))
    own = network[1].running_mean.clone()
    layout = prunable_layout(network)
    samples = Calibration(Sampling(), given, network, layout, validated=False)
    told = samples.renew_batch_norms(given, Losses(before, after), Silent())
    assert told.taken is taken
    assert torch.equal(network[1].running_mean, own) is not taken
    known = [loss if isfinite(loss) else None for loss in (before, after)]
    assert [told.loss_before, told.loss_after] == known
    assert (told.layers, told.samples) == (1, 20)


def test_statistics_that_overflow_are_an_error(calibration):
    model = chita.load_model("digits-cnn")
    x, y = calibration.batch
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(chita.NumericalError, match=r"batch norm 'bn1'.*not finite"):
        chita.prune(model, (x * 1e30, y), solver="magnitude", sparsity=0.5, inplace=True)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(("sparsity", "taken"), [(0.1, False), (0.9, True)])
def test_layer_by_layer_they_are_taken_by_the_same_rule(calibration, sparsity, taken):
    model = chita.load_model("digits-cnn")
    done, without = (
        chita.prune(
            model,
            calibration,
            solver="alps",
            sparsity=sparsity,
            fisher=chita.Fisher(samples=200),
            stages=chita.Stages(bn_recalibrate=on),
        )
        for on in (True, False)
    )
    told = done.record.batch_norm
    assert without.record.batch_norm is None
    assert (without.record.validation, done.record.validation) == (0, 100)
    assert told.taken is taken
    assert (told.loss_after <= told.loss_before) is taken
    mean = done.model.bn1.running_mean
    assert torch.equal(mean, without.model.bn1.running_mean) is not taken


class Plain(nn.Module):
    """Takes named tensors, as Hugging Face's networks do."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x, labels=None):
        logits = self.last(self.norm(self.first(x)).relu())
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("labelled", [True, False])
def test_layer_by_layer_samples_without_targets_do_not_validate(labelled):
    data = {"x": torch.randn(80, 6), **({"labels": torch.arange(80) % 3} if labelled else {})}
    done = chita.prune(Plain(), data, solver="wanda", sparsity=0.5, fisher=chita.Fisher(samples=40))
    assert done.record.batch_norm.samples == 80 - 16
    assert (done.record.batch_norm.loss_before is not None) is labelled
    assert done.record.validation == (16 if labelled else 0)


def test_layer_by_layer_samples_asked_to_validate_need_targets():
    with pytest.raises(chita.InputError, match="labels"):
        chita.prune(
            Plain(),
            {"x": torch.randn(80, 6)},
            solver="wanda",
            sparsity=0.5,
            fisher=chita.Fisher(samples=40),
            validation=9,
        )


def test_events_layer_by_layer_renew_them(calibration):
    model = chita.load_model("digits-cnn")
    training = chita.Training(epochs=2, events=2, initial=0.8)
    done = chita.prune(
        model,
        calibration,
        solver="alps",
        sparsity=0.9,
        fisher=chita.Fisher(samples=200),
        training=training,
    )
    assert done.record.batch_norm is not None
    assert done.record.batch_norm.loss_before is not None


def test_statistics_of_single_images_are_judged_by_their_samples():
    """Each batch has one image of a size of its own: what its statistics say is mostly chance."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    # Classes are bright and dark images, which is what the statistics of one image take away.
    bright = [torch.randn(1, 1, 8 + k, 8) + 4 * (k % 2) for k in range(24)]
    parts = [(x, torch.tensor([k % 2])) for k, x in enumerate(bright)]
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        cut = torch.cat([x[:, :, :8] for x, _ in parts])
        targets = torch.cat([y for _, y in parts])
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(cut), targets).backward()
        optimizer.step()
    network.eval()

    def right(model):
        with torch.no_grad():
            return sum(int(model(x).argmax() == y) for x, y in parts)

    assert right(network) == 24
    found = chita.prune(network, parts, solver="magnitude", sparsity=0.05)
    assert right(found.model) >= 23
    told = found.record.batch_norm
    assert told.taken == (told.loss_after <= told.loss_before)
    # Without targets nothing tells whether they are better, and they stay.
    unlabelled = [x for x, _ in parts]
    found = chita.prune(network, unlabelled, solver="magnitude", sparsity=0.05)
    assert (found.record.batch_norm.samples, found.record.batch_norm.taken) == (0, False)
    assert torch.equal(found.model[1].running_mean, network[1].running_mean)
