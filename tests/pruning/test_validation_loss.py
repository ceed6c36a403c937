"""The validation loss: the better one of a network's own and of fresh batch-norm statistics."""

import math

import pytest
import torch
from torch import nn

from chita.data.examples import Examples
from chita.layout import Axes, Layout
from chita.losses import LOSSES
from chita.models.prunable import read_weights
from chita.pruning.validation_loss import ValidationLoss, lower


@pytest.mark.parametrize(
    ("one", "other", "least"),
    [
        (1.0, 2.0, 1.0),
        (2.0, 1.0, 1.0),
        (math.nan, 2.0, 2.0),
        (2.0, math.nan, 2.0),
        (math.inf, 2.0, 2.0),
        (2.0, math.inf, 2.0),
        (math.inf, math.inf, math.inf),
    ],
)
def test_the_lower_loss_is_a_finite_one(one, other, least):
    assert lower(one, other) == least


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "own"])
def test_a_loss_is_that_of_the_better_statistics(fresh):
    """Batch norms in training mode, on all samples at once, or as they are."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    given = torch.randn(300, 3)
    if not fresh:  # the targets are what its own statistics say
        network[1].running_mean.normal_()
    with torch.no_grad():
        targets = network.train(fresh)(given).argmax(1)
    network.eval()
    if fresh:
        network[1].running_mean.fill_(3.0)
    samples = Examples((given, targets))
    names = ("0.weight", "2.weight")
    shapes = tuple(tuple(network.get_parameter(name).shape) for name in names)
    layout = Layout(names=names, shapes=shapes, axes=(Axes(), Axes()))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    renewed, plain = (
        ValidationLoss(network, layout, samples, LOSSES["cross_entropy"], renewable=renewable)
        for renewable in (True, False)
    )
    loss = renewed(read_weights(network, layout))
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    own = plain(read_weights(network, layout))
    with torch.no_grad():
        of_samples = float(LOSSES["cross_entropy"].mean(network.train(), (given, targets)))
    assert (of_samples < own) == fresh
    assert loss == pytest.approx(min(of_samples, own), rel=1e-5)
