"""What a network measures before and after, in the record."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.progress import Silent

CALIBRATION, EVALUATION = digits()[0].first(300), digits()[1].first(200)
FIXED = {
    "fisher": chita.Fisher(samples=60, structure="full"),
    "quadratic": chita.Quadratic(ridge=0.1, first_order=1.0, step_size=1.0),
}
MEASURED = ("metric", "dense_metric", "pruned_metric")


def network():
    return chita.load_model("digits-mlp")


def measured(result):
    return tuple(getattr(result.record, name) for name in MEASURED)


def test_every_way_measures_as_evaluate_does():
    dense = chita.evaluate(network(), EVALUATION)
    masks = chita.prune(network(), sparsity=0.9, solver="magnitude").masks
    magnitude = {"sparsity": 0.9, "solver": "magnitude"}
    for result in (
        chita.prune(network(), CALIBRATION, evaluation=EVALUATION, **magnitude),
        chita.prune(network(), CALIBRATION, evaluation=EVALUATION, **magnitude, inplace=True),
        chita.prune(
            network(),
            CALIBRATION,
            budget=chita.Nonzeros(900),
            solver="bso",
            evaluation=EVALUATION,
            **FIXED,
        ),
        chita.prune(
            network(),
            CALIBRATION,
            budget=chita.Nonzeros(900),
            solver="wanda",
            evaluation=EVALUATION,
            fisher=chita.Fisher(samples=60),
        ),
        chita.refit(network(), CALIBRATION, masks, evaluation=EVALUATION, **FIXED),
        chita.apply_masks(network(), masks, evaluation=EVALUATION),
    ):
        pruned = chita.evaluate(result.model, EVALUATION)
        assert measured(result) == (dense.metric, dense.value, pruned.value)
        assert dense.value > pruned.value
        *phases, total = result.seconds
        assert (phases[-2:], total) == (["evaluate", "other"], "total")
        assert result.seconds[total] == pytest.approx(sum(map(result.seconds.get, phases)))
    plain = chita.apply_masks(network(), masks)
    assert measured(plain) == (None, None, None)
    assert "evaluate" not in plain.seconds


def test_it_is_measured_by_the_loss_that_is_given():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x = torch.randn(40, 4)
    data, other = (x[:30], x[:30, :3].sin()), (x[30:], x[30:, :3].sin())
    for loss in ("mse", lambda model, batch: 2 * nn.functional.mse_loss(model(batch[0]), batch[1])):
        masks = {"weight": torch.eye(3, 4).bool()}
        for result in (
            chita.prune(
                model,
                data,
                budget=chita.Nonzeros(5),
                loss=loss,
                fisher=chita.Fisher(samples=20),
                evaluation=other,
            ),
            chita.refit(
                model, data, masks, loss=loss, fisher=chita.Fisher(samples=20), evaluation=other
            ),
            chita.apply_masks(model, masks, loss=loss, evaluation=other),
        ):
            score = chita.evaluate(model, other, loss=loss)
            pruned = chita.evaluate(result.model, other, loss=loss).value
            assert measured(result) == (score.metric, score.value, pruned)


def test_epochs_are_measured_too_unless_something_else_measures_them():
    training = chita.Training(epochs=2, events=1, batch=100)
    common = {"sparsity": 0.8, "solver": "magnitude", "training": training}
    common |= {"evaluation": EVALUATION}
    own = chita.prune(network(), CALIBRATION, **common)
    last = own.record.training.epochs[-1]
    assert last.metric == own.record.pruned_metric == chita.evaluate(own.model, EVALUATION).value
    told = chita.prune(network(), CALIBRATION, **common, measure=lambda _: 7.0)
    assert [epoch.metric for epoch in told.record.training.epochs] == [7.0, 7.0]
    assert told.record.pruned_metric == own.record.pruned_metric


def test_what_cannot_be_measured_is_refused_before_any_work():
    dense = network()
    before = copy.deepcopy(dense.state_dict())
    common = {"sparsity": 0.9, "solver": "magnitude", "inplace": True}
    for evaluation, told in (
        (digits(), "two sets of samples"),
        (iter([1]), "can be read only once"),
        ((torch.zeros(3, 64), torch.zeros(3)), r"targets\.long\(\)"),
    ):
        with pytest.raises(InputError, match=told):
            chita.prune(dense, CALIBRATION, evaluation=evaluation, **common)
    assert all(torch.equal(before[name], t) for name, t in dense.state_dict().items())
    with pytest.raises(InputError, match="fc9"):
        chita.prune(dense, evaluation=iter([1]), targets="fc9", **common)


@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_measuring_that_fails_leaves_a_network_in_place_as_it_was(name):
    class Failing(Silent):
        def start(self, task, total, unit):
            if task == "evaluate dense":
                raise KeyboardInterrupt

    model = nn.Sequential(OrderedDict(a=nn.Linear(64, 64), b=nn.Linear(64, 64)))
    model.b.weight = model.a.weight  # a mask may name either
    model.register_buffer("mean", torch.zeros(1).expand(4))  # nothing can be written there
    before = copy.deepcopy(model.state_dict())
    images, classes = EVALUATION.parts[0]
    options = {"evaluation": (images.flatten(1), classes), "inplace": True}
    masks = {name: torch.rand(64, 64) > 0.5}
    with pytest.raises(KeyboardInterrupt):
        chita.apply_masks(model, masks, **options, progress=Failing())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
