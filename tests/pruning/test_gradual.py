"""Gradual pruning: exact counts under every budget and solver, the same bits after a resume."""

import copy
import itertools

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import chita
from chita.data.digits import digits
from chita.errors import InputError, NumericalError
from chita.pruning import gradual
from chita.solvers import SOLVERS
from chita.training.fine_tune import Diverged, FineTuner
from tests.pruning.cases import ASKED, GIVEN


def network(name="digits-mlp"):
    return chita.load_model(name)


def training(**fields):
    return chita.Training(**{"epochs": 3, "events": 2, "batch": 100, "rate": 0.02, **fields})


def pruned(model=None, data=None, **arguments):
    data = digits()[0].first(300) if data is None else data
    usual = {
        "sparsity": None if "budget" in arguments else 0.8,
        "training": training(),
        "fisher": chita.Fisher(samples=60),
        **({} if "solver" in arguments else GIVEN),
    }
    asked = {**usual, **arguments}
    return chita.prune(network() if model is None else model, data, **asked)


def same(one, other):
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_keeps_exactly_the_count_and_trains_what_is_kept(solver):
    dense = network()
    found = pruned(solver=solver)
    assert found.record.nnz == 3404 == sum(int(mask.sum()) for mask in found.masks.values())
    for name, mask in found.masks.items():
        assert not found.model.get_parameter(name)[~mask].any()
    epochs = found.record.training.epochs
    assert [epoch.sparsity for epoch in epochs] == pytest.approx([0.5, 0.8, 0.8], abs=1e-4)
    assert not torch.equal(found.model.fc1.bias, dense.fc1.bias)
    assert len(found.record.stages) == 2


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    "budget",
    [
        "2:4",
        "4x1 & sparsity=0.6",
        "nnz=1000",
        "outputs & sparsity=0.7",
        chita.Quotas({"fc1": 0.9, "fc*": 0.5}),
        "flops=0.3",
        "flops=0.3 & sparsity=0.8",
        "megabytes=0.02",
    ],
    ids=str,
)
def test_every_budget_is_met_by_the_last_event(budget, asked):
    by_flops = "flops" in str(budget)
    model = network("digits-cnn" if by_flops else "digits-mlp")
    options = {
        "budget": budget,
        "ignore": ["fc3"] if budget in ("2:4", "4x1 & sparsity=0.6") else (),
    }
    found = pruned(model, **(asked or {"solver": "chita"}), **options)
    at_once = chita.prune(model, digits()[0].first(300), solver="magnitude", **options)
    assert found.record.nnz == sum(int(mask.sum()) for mask in found.masks.values())
    if budget != "flops=0.3":
        assert found.record.nnz == at_once.record.nnz
    if by_flops:
        assert found.record.flops <= 0.3 * found.record.dense_flops
    if budget == "2:4":
        for mask in found.masks.values():
            assert (mask.view(-1, 4).sum(1) == 2).all()


def test_layer_by_layer_on_a_transformer():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
    )
    model = BertForSequenceClassification(config)
    ids = torch.randint(30, (48, 8))
    data = {"input_ids": ids, "labels": ids[:, 0] % 2}
    found = pruned(
        model,
        data,
        solver="alps",
        training=training(batch=16, distillation=0.5),
        fisher=chita.Fisher(samples=32),
    )
    assert found.record.nnz == found.record.prunable // 5
    assert len(found.record.training.epochs) == 3


def test_levels_by_outliers_layer_by_layer():
    found = pruned(solver="alps", budget=chita.ByOutliers(0.8))
    assert found.record.nnz == 3404


def test_inner_stages_go_from_event_to_event():
    found = pruned(
        stages=chita.Stages(3, schedule="linear"), training=training(initial=0.4), sparsity=0.8
    )
    expected = [0.4 / 3, 0.8 / 3, 0.4, 0.4 + 0.4 / 3, 0.4 + 0.8 / 3, 0.8]
    assert [s.sparsity for s in found.record.stages] == pytest.approx(expected, abs=1e-4)
    hashes = [stage.data_hash for stage in found.record.stages]
    assert len(set(hashes)) > 3  # fresh samples, until all samples were drawn


@pytest.fixture
def masks(monkeypatch):
    """Those that are trained under, one event after another."""
    masks = []
    held = FineTuner.hold

    def hold(self, given):
        masks.append({name: mask.clone() for name, mask in given.items()})
        held(self, given)

    monkeypatch.setattr(FineTuner, "hold", hold)
    return masks


def test_no_regrowth_over_events_and_regrowth(masks):
    events = training(epochs=4, events=4, initial=0.95, rate=0.001)
    given = {
        "training": events,
        "sparsity": 0.95,
        "solver": "chita",
        "quadratic": chita.Quadratic(ridge="0.1x", first_order=1, step_size=1),
    }
    pruned(**given, stages=chita.Stages(regrow=False))
    for before, after in itertools.pairwise(masks):
        assert all(bool((before[n] | ~after[n]).all()) for n in before)
    masks.clear()
    pruned(**given)
    pairs = itertools.pairwise(masks)
    assert any(bool((~b[n] & a[n]).any()) for b, a in pairs for n in b)


def test_no_regrowth_over_events_with_pilot_runs(masks):
    events = training(epochs=2, events=2, initial=0.97, rate=0.1, batch=20)
    found = pruned(
        solver="iht", training=events, sparsity=0.97, stages=chita.Stages(3, regrow=False)
    )
    assert any(trial.stages for trial in found.record.stages[3].trials)
    before, after = masks
    assert all(bool((before[n] | ~after[n]).all()) for n in before)


@pytest.mark.parametrize("loaded", [False, True])
def test_validation_samples_are_not_trained_on(monkeypatch, loaded):
    seen = []
    step = FineTuner._step

    def note(self, batch, rate):
        seen.append(batch[0].clone())
        return step(self, batch, rate)

    monkeypatch.setattr(FineTuner, "_step", note)
    x, y = digits()[0].first(300).batch
    samples = torch.utils.data.TensorDataset(x, y)
    data = torch.utils.data.DataLoader(samples, batch_size=10) if loaded else (x, y)
    found = pruned(  # something is to be chosen, or else a loader gives no validation samples
        data=data,
        training=training(epochs=2, batch=10),
        quadratic=chita.Quadratic(ridge=0.1),
    )
    trained = {tuple(row.flatten().tolist()) for batch in seen for row in batch}
    held = 300 - len({tuple(row.flatten().tolist()) for row in x} & trained)
    assert found.record.validation == 30
    assert 30 <= held <= 30 + 9  # and those of a last batch that is not whole


@pytest.mark.parametrize(
    "solver", [pytest.param("chita", marks=pytest.mark.slow), "magnitude", "alps"]
)
@pytest.mark.parametrize("after", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch, solver, after):
    arguments = {
        "solver": solver,
        "model": network("digits-cnn"),
        "training": training(optimizer="adamw", rate=1e-3, augmentation="crop-flip"),
        "measure": lambda model: float(model.fc.weight.sum()),
    }
    whole = pruned(**arguments)
    kept = tmp_path / "unfinished"
    epoch = FineTuner.epoch

    def stopped(self, number, largest):
        if number == after:
            raise KeyboardInterrupt
        return epoch(self, number, largest)

    monkeypatch.setattr(FineTuner, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        pruned(**arguments, checkpoint=kept)
    monkeypatch.setattr(FineTuner, "epoch", epoch)
    torch.rand(7)
    resumed = pruned(**arguments, checkpoint=chita.Checkpoint(kept, resume=True))
    assert same(whole, resumed)
    assert not kept.exists()
    told = [e.model_dump(exclude={"seconds"}) for e in whole.record.training.epochs]
    assert told == [e.model_dump(exclude={"seconds"}) for e in resumed.record.training.epochs]
    assert same(whole, pruned(**arguments))


def test_other_settings_do_not_go_on(tmp_path, monkeypatch):
    kept = tmp_path / "unfinished"
    monkeypatch.setattr(gradual.GradualRun, "_measured", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pruned(checkpoint=kept)
    monkeypatch.undo()
    epoch = FineTuner.epoch

    def stopped(self, number, largest):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(self, number, largest)

    monkeypatch.setattr(FineTuner, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        pruned(checkpoint=kept)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"`training.rate` was 0.02 and is 0.03"):
        pruned(checkpoint=chita.Checkpoint(kept, resume=True), training=training(rate=0.03))


def diverging(at):
    epoch = FineTuner.epoch

    def diverge(self, number, largest):
        loss = epoch(self, number, largest)
        if number == at:
            raise Diverged(f"epoch {number + 1}: the loss is inf")
        return loss

    return diverge


def test_divergence_before_the_last_event_is_an_error_and_leaves_the_network(monkeypatch):
    model = network()
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(FineTuner, "epoch", diverging(1))
    with pytest.raises(NumericalError, match="diverged before the last pruning event"):
        pruned(model, inplace=True, training=training(epochs=4, events=3))
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_divergence_after_it_ends_with_the_last_good_epoch(monkeypatch):
    good = pruned(training=training(epochs=3))
    monkeypatch.setattr(FineTuner, "epoch", diverging(2))
    found = pruned(training=training(epochs=3))
    assert found.record.nnz == good.record.nnz
    assert len(found.record.training.epochs) == 2
    assert "diverged in epoch 3" in found.record.training.stopped
    assert good.record.training.stopped is None
    monkeypatch.undo()
    epoch, states = FineTuner.epoch, []

    def note(self, number, largest):
        states.append(copy.deepcopy(self._network.state_dict()))
        return epoch(self, number, largest)

    monkeypatch.setattr(FineTuner, "epoch", note)
    pruned(training=training(epochs=3))
    assert all(torch.equal(found.model.state_dict()[n], t) for n, t in states[2].items())


def test_a_rate_that_is_far_too_large_diverges_in_truth():
    with pytest.raises(NumericalError, match="Lower rate"):
        pruned(training=training(rate=1e8, warm_up=0))


def test_the_measure_is_called_after_every_event_and_epoch():
    calls = []

    def measure(model):
        calls.append(float((model.fc1.weight == 0).float().mean()))
        return float(len(calls))

    found = pruned(measure=measure, training=training(epochs=5, events=2, every=2))
    epochs = found.record.training.epochs
    assert [e.pruned_metric for e in epochs] == [1.0, None, 4.0, None, None]
    assert [e.metric for e in epochs] == [2.0, 3.0, 5.0, 6.0, 7.0]
    assert calls[3] > calls[0] > 0.2


def test_what_does_not_go_with_training_is_refused():
    with pytest.raises(InputError, match="events have theirs"):
        pruned(stages=chita.Stages(schedule=[0.5, 0.8]))
    with pytest.raises(InputError, match="regrow"):
        pruned(solver="alps", stages=chita.Stages(regrow=False))
    with pytest.raises(InputError, match="`measure` is 5; give a function"):
        pruned(measure=5)
    with pytest.raises(InputError, match="needs calibration data"):
        chita.prune(network(), sparsity=0.5, solver="magnitude", training=training())
    with pytest.raises(InputError, match="label_smoothing"):
        pruned(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            loss="mse",
            data=(torch.randn(90, 1, 8, 8), torch.randn(90, 10)),
            training=training(label_smoothing=0.1),
        )


def test_a_network_in_half_precision_of_its_own_trains_or_says_why():
    model = network().to(torch.bfloat16)
    x, y = digits()[0].first(300).batch
    found = pruned(model, (x.to(torch.bfloat16), y), solver="magnitude")
    assert found.record.nnz == 3404
