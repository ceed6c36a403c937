"""Every pass of the network lies in a phase that the record names."""

import time

import pytest
import torch
from torch import nn

import chita
from tests.pruning.cases import GIVEN

FISHER = chita.Fisher(samples=40)
RUNS = {
    "stages": {**GIVEN, "sparsity": 0.8, "stages": 2},
    "auto": {"sparsity": 0.8, "stages": 3},
    "layers": {"solver": "wanda", "sparsity": 0.5},
    "outliers": {"solver": "wanda", "budget": chita.ByOutliers(0.5)},
    "events": {**GIVEN, "sparsity": 0.8, "training": chita.Training(epochs=2, events=2, batch=20)},
    "levels": {**GIVEN, "budget": chita.Searched(chita.Sparsity(0.5))},
    "max loss": {**GIVEN, "budget": chita.MaxLoss(5.0)},
}


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second in every pass of a network, and at no other time."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("name", RUNS)
def test_passes_are_in_phases_that_are_named(name, clock, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.randn(200, 8)
    data = x, x[:, :3].argmax(1)

    def ticked(_module, args):
        clock[0] += 0 if args[0].is_meta else 1

    model.register_forward_pre_hook(ticked)
    options = {"fisher": FISHER, "evaluation": data, "checkpoint": tmp_path / "run", **RUNS[name]}
    seconds = dict(chita.prune(model, data, **options).seconds)
    assert seconds.pop("total") == clock[0]
    assert sum(seconds.values()) == pytest.approx(clock[0])
    assert seconds["other"] <= 8, seconds  # looks at a few samples
