"""Gradients of earlier stages against a Fisher and a gradient formed by hand."""

import pytest
import torch

import chita
from chita.collect.gradients import Collected, collect_gradients
from chita.data.digits import digits
from chita.losses import LOSSES
from chita.models.mode import at_state, evaluation_mode, state_of
from chita.models.prunable import prunable_layout, read_weights
from chita.problem import DenseRows
from chita.pruning import stages as module
from chita.pruning.stage_problem import History
from tests.pruning.cases import EITHER
from tests.pruning.test_stages import Stop, Stopping, equal

FIXED = {"quadratic": chita.Quadratic(ridge=0.02, first_order=1.0, step_size=1.0)}


def lot(n, p=6):
    rows = DenseRows(torch.randn(p, n, dtype=torch.float64))
    return Collected(rows=rows, output_norms=torch.rand(n, dtype=torch.float64) + 0.5, backends={})


def dense(collected):
    return collected.rows.gather(torch.arange(collected.rows.p)).T


def test_the_curvature_is_of_all_gradients_and_the_first_order_term_of_the_fresh_ones():
    first, second, fresh = lot(3), lot(4), lot(5)
    history = History(2)
    history.add(0, first)
    history.add(1, second)
    found = history.below(fresh)
    a, n = dense(found), found.rows.n
    assert n == 12
    hessian = sum(dense(each).T @ dense(each) for each in (first, second, fresh)) / 12
    assert torch.allclose(a.T @ a / n, hessian)
    gradient = dense(fresh).T @ fresh.output_norms / 5
    assert torch.allclose(a.T @ found.output_norms / n, gradient)


def test_gradients_that_are_too_old_go():
    history, lots = History(2), [lot(2), lot(3), lot(4)]
    assert history.below(lots[0]) is lots[0]
    for stage, each in enumerate(lots):
        assert history.lacks(stage, 3) == (stage > 0)
        history.add(stage, each)
        assert not history.lacks(stage, 3)
    assert history.below(lots[0]).rows.n == 2 + 3 + 4
    assert not History(0).lacks(0, 1)


def test_a_network_has_its_tensors_again_whatever_happens():
    network = chita.load_model("digits-cnn")
    now, other = state_of(network), state_of(network)
    other["conv1.weight"] += 1
    with at_state(network, other):
        seen = state_of(network)
    assert equal(seen, other)
    with pytest.raises(ZeroDivisionError), at_state(network, other):
        _ = 1 / 0
    assert equal(state_of(network), now)


@pytest.mark.parametrize("history", [0, 1, 2])
def test_a_stage_solves_with_the_gradients_of_those_before(history, monkeypatch):
    """Each lot is collected by hand at the weights at which the run has collected it."""
    calibration = digits()[0]
    network = chita.load_model("digits-mlp")
    layout, seen = prunable_layout(network), []

    class Noting(module.StageProblem):
        def __init__(self, w_bar, rows, output_norms, *others):
            seen.append((w_bar.clone(), rows, output_norms))
            super().__init__(w_bar, rows, output_norms, *others)

    collected = []
    true_collected = module.StageLoop._collected

    def noted(self, given, progress):
        found = true_collected(self, given, progress)
        collected.append((state_of(self.network), given))
        return found

    monkeypatch.setattr(module, "StageProblem", Noting)
    monkeypatch.setattr(module.StageLoop, "_collected", noted)
    options = {
        "sparsity": 0.9,
        "stages": 4,
        "solver": "bso",
        "fisher": chita.Fisher(samples=50, samples_per_gradient=2, history=history),
        **FIXED,
    }
    result = chita.prune(network, calibration, **options)
    assert len(collected) == 4
    by_hand = []
    for state, given in collected:
        network.load_state_dict(state)
        with evaluation_mode(network):
            found = collect_gradients(
                network,
                layout,
                given,
                samples_per_gradient=2,
                loss=LOSSES["cross_entropy"],
                improved=True,
            )
        by_hand.append((read_weights(network, layout), found))
    last, rows, output_norms = seen[-1]
    assert torch.equal(last, by_hand[-1][0])
    assert rows.n == 50 * (1 + history)
    a = rows.gather(torch.arange(layout.size)).T.double()
    lots = [dense(found).double() for _, found in by_hand[3 - history :]]
    for vector in torch.randn(3, layout.size, dtype=torch.float64):
        expected = sum(each.T @ (each @ vector) for each in lots) / rows.n
        assert torch.allclose(a.T @ (a @ vector) / rows.n, expected, rtol=1e-4, atol=1e-8)
    e = by_hand[-1][1].output_norms
    gradient = lots[-1].T @ e / 50
    assert torch.allclose(a.T @ output_norms / rows.n, gradient, rtol=1e-4, atol=1e-8)
    change = lots[-1] @ (read_weights(result.model, layout) - last).double() * e
    predicted = float(change.mean() + change.square().mean() / 2)  # by the fresh gradients only
    assert result.record.stages[-1].predicted == pytest.approx(predicted, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "ridge", "at"),
    [
        ("digits-cnn", 0.02, 2),
        pytest.param("digits-mlp", "auto", 4, marks=pytest.mark.slow),
        pytest.param("digits-cnn", 0.02, 4, marks=pytest.mark.slow),
        pytest.param("digits-mlp", "auto", 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("solver", EITHER)
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, name, ridge, at, solver):
    """The history is not in the file, but collected again where the network was."""
    calibration = digits()[0]
    model = chita.load_model(name)
    path = tmp_path / "run.unfinished"
    options = {
        "sparsity": 0.9,
        "stages": 4,
        "solver": solver,
        "fisher": chita.Fisher(samples=60, history=2),
        "quadratic": chita.Quadratic(ridge=ridge),
    }
    whole = chita.prune(model, calibration, **options)
    with pytest.raises(Stop):
        chita.prune(model, calibration, **options, checkpoint=path, progress=Stopping(at))
    again = chita.prune(
        model, calibration, **options, checkpoint=chita.Checkpoint(path, resume=True)
    )
    assert equal(dict(whole.model.state_dict()), dict(again.model.state_dict()))
    objectives = [[stage.objective for stage in run.record.stages] for run in (whole, again)]
    assert objectives[0] == objectives[1]
    without = chita.prune(model, calibration, **{**options, "fisher": chita.Fisher(samples=60)})
    assert not equal(dict(whole.model.state_dict()), dict(without.model.state_dict()))
