"""What a plan says, against what a run then does."""

import pytest
import torch
from torch import nn

import chita
from chita.collect.cost import sample_cost
from chita.data.digits import digits
from chita.errors import InputError
from chita.losses import LOSSES
from chita.machine import EFFICIENCY, Speed
from chita.pruning import layer_matrices, predicted


@pytest.fixture
def known_speed(monkeypatch):
    """A machine whose speed is not measured."""
    known = Speed(stream=1e10, flops=1e11)
    for module in (predicted, layer_matrices):
        monkeypatch.setattr(module, "speed", lambda: known)


@pytest.mark.usefixtures("known_speed")
def test_a_plan_lists_every_parameter_with_its_rule_and_its_bytes():
    model = chita.load_model("digits-cnn")
    found = chita.plan(
        model, digits()[0], sparsity=0.9, ignore=["conv1"], fisher=chita.Fisher(samples=50)
    )
    assert [t.name for t in found.tensors] == [name for name, _ in model.named_parameters()]
    rules = {t.name: t.rule for t in found.tensors}
    assert rules["conv1.weight"] == "ignore conv1"
    assert rules["fc.weight"] == "default: Linear"
    assert rules["fc.bias"] == "no layer's weight"
    assert found.prunable == 23_824 - 144
    assert found.kept == found.prunable // 10
    factored = next(
        t for t in found.tensors if t.name == "fc.weight"
    )  # one position per gradient: ten outputs and their inputs are kept
    assert factored.bytes == (10 + 64) * 50 * 4
    expected = (found.prunable - 640) * 50 * 4 + factored.bytes
    assert found.gradient_bytes == sum(t.bytes for t in found.tensors) == expected
    asked = {"ignore": ["conv1"], "solver": "bso", "fisher": chita.Fisher(samples=50)}
    run = chita.prune(model, digits()[0], sparsity=0.9, **asked)
    assert (run.record.nnz, run.record.prunable) == (found.kept, found.prunable)
    assert set(run.masks) == {t.name for t in found.tensors if t.pruned}


def test_nothing_is_run():
    class Bomb(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 10)
            self.ran_on = []

        def forward(self, x):
            self.ran_on.append(x.device.type)
            return self.fc(x.flatten(1))

    model = Bomb()
    found = chita.plan(model, digits()[0], budget=chita.Nonzeros(10))
    assert model.ran_on == []
    assert found.collect_seconds > 0
    assert chita.plan(model, budget=chita.Nonzeros(10)).collect_seconds is None


def test_the_cost_of_a_sample_is_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 16, 5))
    sample = (torch.zeros(1, 2, 6, 6), torch.zeros(1).long())
    cost = sample_cost(model, LOSSES["cross_entropy"], sample)
    assert cost.flops == 2 * (16 * 3 * 18) + 2 * 48 * 5
    # Outputs of the convolution, the view of them, the linear layer, and the network itself.
    assert cost.activations == 4 * (48 + 48 + 5 + 5)
    looks = nn.Linear(3, 2)
    looks.forward = lambda x: x if float(x.sum()) > 0 else -x
    assert sample_cost(looks, LOSSES["cross_entropy"], (torch.ones(1, 3), torch.ones(1))) is None


def test_solvers_that_collect_nothing_cost_no_gradients():
    model = chita.load_model("digits-mlp")
    found = chita.plan(model, solver="magnitude")
    assert (found.samples, found.gradient_bytes, found.kept) == (0, 0, None)
    assert found.peak_bytes > 10**7


def test_bad_input_is_refused_as_in_pruning():
    model = chita.load_model("digits-mlp")
    for arguments, message in (
        ({"sparsity": 2}, "Share of the weights to remove"),
        ({"sparsity": 0.5, "budget": chita.Nonzeros(3)}, "Give either .*; got both"),
        ({"budget": chita.Nonzeros(10**9)}, "weights to keep out of"),
        ({"ignore": ["fc9"]}, "'fc9' .did you mean"),
        ({"solver": "chitta"}, "Did you mean chita"),
    ):
        with pytest.raises(InputError, match=message):
            chita.plan(model, **arguments)


@pytest.mark.usefixtures("known_speed")
def test_a_plan_says_which_of_two_limits_binds():
    model = chita.load_model("digits-cnn")
    both = chita.Flops(0.3) & chita.Sparsity(0.6)
    weights, operations = chita.plan(model, digits()[0], budget=both).limits
    assert (weights.binds, operations.binds) == (False, True)
    assert operations.used <= operations.allowed == int(0.3 * operations.whole)
    both = chita.Flops(0.9) & chita.Sparsity(0.9)
    weights, operations = chita.plan(model, digits()[0], budget=both).limits
    assert (weights.binds, operations.binds) == (True, False)
    assert weights.used == weights.allowed == 2382
    assert chita.plan(model, digits()[0], sparsity=0.9).limits == ()
    with pytest.raises(InputError, match="needs a sample"):
        chita.plan(model, budget=chita.Flops(0.3))


@pytest.mark.usefixtures("known_speed")
def test_a_plan_of_layers_and_one_of_training():
    model = chita.load_model("digits-cnn")
    data = digits()[0]
    layers = chita.plan(
        model, data, budget=chita.ByOutliers(0.5), solver="alps", fisher=chita.Fisher(samples=100)
    )
    assert layers.layerwise
    assert layers.kept == 11_912
    grams = [8 * width**2 for width in (9, 16 * 9, 32 * 9, 64)]
    assert [t.bytes for t in layers.tensors if t.pruned] == grams
    options = {"fisher": chita.Fisher(samples=100)}
    once = chita.plan(model, data, sparsity=0.5, **options)
    assert once.train_seconds == 0
    training = chita.Training(epochs=6, events=3)
    options["training"] = training
    trained = chita.plan(model, data, sparsity=0.5, **options)
    assert trained.train_seconds > 0
    assert trained.collect_seconds == pytest.approx(3 * once.collect_seconds)  # three events
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data.batch))
    assert chita.plan(model, loader, **options).train_seconds is None


@pytest.mark.usefixtures("known_speed")
def test_measuring_dense_and_pruned_is_counted():
    model, (data, evaluation) = chita.load_model("digits-mlp"), digits()
    asked = {"sparsity": 0.5, "solver": "magnitude"}
    flops = 2 * sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)
    found = chita.plan(model, evaluation=evaluation, **asked)
    seconds = 2 * len(evaluation) * flops / (EFFICIENCY * 1e11)
    assert found.evaluate_seconds == pytest.approx(seconds)
    assert chita.plan(model, data, **asked).evaluate_seconds == 0
    training = chita.Training(epochs=6, events=3)
    trained = chita.plan(model, data, evaluation=evaluation, training=training, **asked)
    assert trained.evaluate_seconds == pytest.approx(seconds * (2 + 3 + 6) / 2)
    assert chita.plan(model, evaluation=[evaluation.batch], **asked).evaluate_seconds is None


@pytest.mark.usefixtures("known_speed")
def test_the_history_is_held_too():
    model = chita.load_model("digits-mlp")
    plain = chita.plan(model, stages=3, fisher=chita.Fisher(samples=100))
    for history, lots in ((0, 1), (1, 2), (5, 3)):
        found = chita.plan(model, stages=3, fisher=chita.Fisher(samples=100, history=history))
        assert found.samples == 100 * lots
        assert found.gradient_bytes == plain.gradient_bytes * lots
    assert chita.plan(model, fisher=chita.Fisher(samples=100, history=2)).samples == 100
