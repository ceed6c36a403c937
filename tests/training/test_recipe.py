"""What follows from a recipe of training."""

import math

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError
from chita.training.fine_tune import optimizer_of
from chita.training.recipe import Training


def test_the_cubic_schedule_of_events():
    training = Training(epochs=20, events=5, every=3, initial=0.5)
    expected = [0.9 + (0.5 - 0.9) * (1 - e / 4) ** 3 for e in range(5)]
    assert training.sparsities(0.9) == pytest.approx(expected, abs=1e-12)
    assert training.sparsities(0.3) == (0.3,) * 5  # never more than the last
    assert Training(epochs=1, events=1).sparsities(0.7) == (0.7,)
    before = [training.event_before(epoch) for epoch in range(20)]
    assert before == [0, None, None, 1, None, None, 2, None, None, 3, None, None, 4] + [None] * 7


def test_the_rate_warms_up_falls_along_a_cosine_and_restarts_at_every_event():
    training = Training(epochs=8, events=3, every=2, rate=0.1, final_rate=0.01, warm_up=0.5)
    for begin, end in ((0, 2), (2, 4), (4, 8)):
        assert training.rate_at(begin) == 0
        assert training.rate_at(begin + 0.25) == pytest.approx(0.05)
        assert training.rate_at(begin + 0.5) == pytest.approx(0.1)
        assert training.rate_at((begin + 0.5 + end) / 2) == pytest.approx(0.0505)
        assert training.rate_at(end - 1e-9) == pytest.approx(0.001, rel=1e-5)
    once = Training(epochs=8, events=3, restarts=False, warm_up=0, rate=1, final_rate=0)
    for when in (0.0, 1.3, 4.0, 7.9):
        assert once.rate_at(when) == pytest.approx((1 + math.cos(math.pi * when / 8)) / 2)


def test_biases_and_norms_are_not_decayed():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for name in ("sgd", "adamw"):
        training = Training(optimizer=name, weight_decay=0.1)
        groups = optimizer_of(training, list(network.parameters())).param_groups
        decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
        assert decays[network[0].weight] == 0.1
        assert {decays[p] for p in network.parameters() if p.ndim == 1} == {0.0}
    assert len(optimizer_of(Training(), [network[0].bias]).param_groups) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "`epochs` is 0"),
        ({"epochs": 4, "events": 3, "every": 2}, "need more than 4 epochs"),
        ({"epochs": 2.5}, "`epochs` is 2.5"),
        ({"rate": 0}, "`rate` is 0"),
        ({"rate": math.nan}, "`rate` is nan"),
        ({"momentum": 1.0}, "`momentum` is 1.0; give a number of at least 0 and below 1"),
        ({"clip": 0.0}, "`clip` is 0.0"),
        ({"distillation": 1.5}, "`distillation` is 1.5"),
        ({"label_smoothing": 1.0}, "`label_smoothing` is 1"),
        ({"optimizer": "adam"}, "Did you mean adamw"),
        ({"augmentation": "flip"}, "`augmentation` is 'flip'; give one of"),
        ({"restarts": 1}, "`restarts` is 1"),
        ({"initial": 1.0}, "`initial` is 1"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        chita.Training(**fields)


def test_clip_may_be_none():
    assert Training(clip=None).clip is None
    assert Training(clip=1).clip == 1


def test_the_rates_are_finite_where_the_warm_up_fills_a_cycle():
    training = Training(epochs=3, events=3, every=1, warm_up=2.0)
    rates = [training.rate_at(step / 10) for step in range(30)]
    assert all(math.isfinite(rate) and 0 <= rate <= training.rate for rate in rates)
    assert torch.tensor(rates).isfinite().all()
