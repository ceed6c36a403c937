"""Targets that are no classes, single logits, and weights that cancel: said, not guessed."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    one_hot,
)

import chita

torch.manual_seed(0)
X, CLASSES = torch.randn(60, 6), torch.randint(4, (60,))
VALUES = torch.randn(60, 4)
SOFT = torch.rand(60, 4).softmax(1)
YES = (torch.rand(60, 1) > 0.5).float()
WEIGHTS = torch.tensor([1.0, 1.0, 2.0, 50.0])


def network(outputs=4):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs))


def pruned(model, data, **others):
    given = {"samples": 40, **others.pop("fisher", {})}
    quadratic = chita.Quadratic(ridge=0.1, first_order=0, step_size=1)
    asked = {"sparsity": 0.5, "quadratic": quadratic, **others}
    return chita.prune(model, data, fisher=chita.Fisher(**given), **asked)


def trained(model, data):
    training = chita.Training(epochs=1, events=1)
    return chita.prune(model, data, sparsity=0.5, solver="magnitude", training=training)


def measured(model, data):
    return chita.prune(model, sparsity=0.5, solver="magnitude", evaluation=data)


WAYS = {"prune": pruned, "evaluate": chita.evaluate, "train": trained, "measure": measured}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "targets",
    [VALUES, VALUES.abs(), SOFT * 2, (SOFT > 0.2).float(), VALUES.softmax(1) - 0.25],
    ids=["values", "positive", "twice", "labels", "sum-zero"],
)
def test_floats_that_are_no_probabilities_are_no_classes(way, targets):
    with pytest.raises(chita.InputError, match=r"no probabilities.*loss=\"mse\""):
        WAYS[way](network(), (X, targets))


def test_values_of_a_loader_and_of_every_position():
    with pytest.raises(chita.InputError, match="mse"):
        pruned(network(), [(X[i : i + 10], VALUES[i : i + 10]) for i in range(0, 60, 10)])
    images, classes = torch.randn(5, 3, 4, 4), torch.rand(5, 2, 4, 4)
    with pytest.raises(chita.InputError, match="mse"):
        chita.evaluate(nn.Conv2d(3, 2, 1), (images, classes))
    assert chita.evaluate(nn.Conv2d(3, 2, 1), (images, classes.softmax(1))).count == 80


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("targets", [SOFT, one_hot(CLASSES, 4).float()], ids=["soft", "one-hot"])
def test_probabilities_are_classes(way, targets):
    assert WAYS[way](network(), (X, targets)) is not None


def test_probabilities_in_half_precision():
    data = X.bfloat16(), SOFT.bfloat16()
    assert chita.evaluate(network().bfloat16(), data).count == 60


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("targets", [YES, YES[:, 0].long() * 0], ids=["column", "zeros"])
def test_a_single_logit_has_no_largest_class(way, targets):
    with pytest.raises(chita.InputError, match=r"\(\d+, 1\).*two classes.*with_logits"):
        WAYS[way](network(1), (X, targets))


def test_single_logits_without_an_axis_or_by_position():
    with pytest.raises(chita.InputError, match="two classes"):
        chita.evaluate(nn.Sequential(network(1), nn.Flatten(0)), (X, YES[:, 0]))
    with pytest.raises(chita.InputError, match="two classes"):
        chita.evaluate(nn.Conv2d(3, 1, 1), (torch.randn(5, 3, 4, 4), torch.zeros(5, 1, 4, 4)))


def test_what_the_refusal_advises_works():
    def binary(model, batch):
        return binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    model = network(1)
    with torch.no_grad():
        expected = float(binary(model, (X, YES)))
    assert chita.evaluate(model, (X, YES), loss=binary).value == pytest.approx(expected)
    for loss in (binary, "mse"):
        assert pruned(network(1), (X, YES), loss=loss).record.nnz == 28


def by_weight_sum(model, batch):
    return cross_entropy(model(batch[0]), batch[1], weight=WEIGHTS)


def summed(model, batch):
    return cross_entropy(model(batch[0]), batch[1], reduction="sum")


def own_weights(model, batch):
    terms = cross_entropy(model(batch[0][:, :6]), batch[1], reduction="none")
    weights = batch[0][:, 0].exp()
    return (terms * weights).sum() / weights.sum()


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("loss", [by_weight_sum, summed, own_weights])
def test_a_loss_of_which_rows_are_not_the_parts_is_noticed(loss, each):
    fisher = {"samples": 40 // each, "samples_per_gradient": each}
    with pytest.warns(UserWarning, match=rf"The loss {loss.__name__} .*is not the mean") as told:
        pruned(network(), (X, CLASSES), loss=loss, fisher=fisher)
    assert len(told) == 1


def test_a_class_that_is_rare_is_noticed_too():
    rare = torch.where(torch.arange(60) == 37, 3, CLASSES.clamp_max(1))
    with pytest.warns(UserWarning, match="not the mean"):
        pruned(network(), (X, rare), loss=by_weight_sum, fisher={"samples": 60}, validation=0)


def part_of_each(model, batch):
    terms = cross_entropy(model(batch[0]), batch[1], reduction="none")
    return (terms * WEIGHTS[batch[1]]).mean()


def single(model, batch):
    return cross_entropy(model(batch[0])[0], batch[1].squeeze(0))


@pytest.mark.parametrize("each", [1, 4])
def test_a_mean_of_parts_is_left_alone(each):
    fisher = {"samples": 40 // each, "samples_per_gradient": each}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pruned(network(), (X, CLASSES), loss=part_of_each, fisher=fisher).model
        without = pruned(network(), (X, CLASSES), loss="cross_entropy", fisher=fisher).model
    assert not torch.equal(found[0].weight, without[0].weight)


def test_a_loss_for_batches_of_one_sample_is_not_judged_on_more():
    singles = [(X[i : i + 1], CLASSES[i : i + 1]) for i in range(60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pruned(network(), singles, loss=single, validation=0).record.nnz == 40


@pytest.mark.parametrize("rows", [255, 256, 300])
def test_as_many_rows_as_are_compared_accuse_no_loss(rows):
    """The count of what is left to compare comes to nothing, which says nothing of the loss."""
    data = (torch.randn(rows + 40, 5), torch.arange(rows + 40) % 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chita.prune(
            nn.Linear(5, 3),
            data,
            sparsity=0.5,
            solver="bso",
            fisher=chita.Fisher(samples=rows),
            quadratic=chita.Quadratic(ridge=0.1, first_order=0.0, step_size=1.0),
            loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
        )


class OverTheBatch(nn.Sequential):
    """A network that takes away the mean of the batch: samples see each other."""

    def forward(self, x):
        y = self[1](self[0](x))
        return self[2](y - (y.mean(0) if len(y) > 1 else 0))


@pytest.mark.parametrize("each", [1, 2])
def test_samples_that_see_each_other_are_noticed_with_a_named_loss(each):
    fisher = {"samples": 40 // each, "samples_per_gradient": each}
    with pytest.warns(UserWarning, match="see each other.*`samples_per_gradient`") as told:
        pruned(OverTheBatch(*network()), (X, CLASSES), fisher=fisher)
    assert len(told) == 1


def test_a_loss_between_samples_has_no_gradient_of_one_and_says_so():
    def between(model, batch):
        found = model(batch[0])
        return (found @ found.T).fill_diagonal_(0).square().mean()

    with (
        pytest.warns(UserWarning, match="not the mean"),
        pytest.raises(chita.InputError, match="compares samples with each other"),
    ):
        pruned(network(), (X, CLASSES), loss=between)
    fisher = {"samples": 10, "samples_per_gradient": 4}
    with pytest.warns(UserWarning, match="not the mean"):
        pruned(network(), (X, CLASSES), loss=between, fisher=fisher)


class WithLoss(OverTheBatch):
    """The same network, which takes dicts and returns its own loss."""

    def forward(self, x, labels):
        logits = super().forward(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def test_samples_that_see_each_other_are_noticed_with_the_loss_of_the_network():
    with pytest.warns(UserWarning, match="see each other.*`samples_per_gradient`"):
        pruned(WithLoss(*network()), {"x": X, "labels": CLASSES}, validation=0)


@pytest.mark.parametrize("way", ["prune", "train"])
def test_a_loss_of_another_network_is_refused(way):
    other = network()

    def of_another(model, batch):
        return cross_entropy(other(batch[0]), batch[1])

    training = chita.Training(epochs=1, events=1)
    options = {"train": {"solver": "magnitude", "training": training}}.get(way, {})
    with pytest.raises(chita.InputError, match="that of another network"):
        pruned(other, (X, CLASSES), loss=of_another, **options)


def test_a_loss_of_every_sample_is_refused_though_rows_are_of_one():
    def unreduced(model, batch):
        return cross_entropy(model(batch[0]), batch[1], reduction="none")

    with pytest.raises(chita.InputError, match=r"unreduced returned \(2,\).*a scalar"):
        pruned(network(), (X, CLASSES), loss=unreduced, validation=0)
    pruned(network(), (X, CLASSES), loss=lambda *of: unreduced(*of).mean(0, keepdim=True))
