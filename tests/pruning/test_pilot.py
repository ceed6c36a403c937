"""Pilot runs against the same runs by hand, and λ raised where no system can be solved."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.errors import NumericalError
from chita.pruning.pilot import run_pilots
from chita.pruning.state import RunState
from chita.pruning.tuning import Tuner
from chita.records import StageRecord
from chita.solvers import BSO
from tests.pruning.cases import EITHER


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


@pytest.mark.parametrize(
    ("schedule", "regrow", "history"),
    [
        ("constant", False, 1),
        pytest.param("constant", False, 0, marks=pytest.mark.slow),
        pytest.param("exp", True, 0, marks=pytest.mark.slow),
        pytest.param("exp", False, 3, marks=pytest.mark.slow),
        pytest.param("constant", True, 0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_pilot_run_is_the_first_stages_of_a_run(calibration, schedule, regrow, history):
    model = chita.load_model("digits-cnn")
    fisher = chita.Fisher(samples=80, history=history)
    stages = chita.Stages(6, schedule=schedule, regrow=regrow)
    options = {"sparsity": 0.9, "stages": stages, "validation": 60, "seed": 3}
    found = chita.prune(model, calibration, fisher=fisher, **options).record.stages
    pilots = [trial for trial in found[0].trials if trial.stages]
    finished = [trial for trial in pilots if trial.stages == 2]
    assert {trial.stages for trial in pilots} <= {1, 2}
    assert {trial.first_order for trial in pilots} == {1.0}
    assert len(pilots) >= 3
    ((chosen, structure),) = {(stage.ridge, stage.structure) for stage in found[:-1]}
    assert {trial.structure for trial in pilots} == {"full", "outputs"}
    firsts = []
    for trial in finished:
        by_hand = chita.prune(
            model,
            calibration,
            fisher=replace(fisher, structure=trial.structure),
            quadratic=chita.Quadratic(ridge=trial.ridge, step_size=1.0),
            **options,
        ).record.stages
        assert by_hand[1].validation_loss == trial.loss
        assert trial.step_size == 1.0
        firsts.append(by_hand[0].validation_loss)
    assert all(trial.loss > 1.05 * min(firsts) for trial in pilots if trial.stages == 1)
    losses = {(trial.ridge, trial.structure): trial.loss for trial in finished}
    assert losses[chosen, structure] <= min(losses.values()) * 1.025
    assert all(not trial.stages for stage in found[1:] for trial in stage.trials)
    by_hand = chita.prune(
        model,
        calibration,
        fisher=replace(fisher, structure=structure),
        quadratic=chita.Quadratic(ridge=chosen),
        **options,
    ).record.stages
    assert [same(stage) for stage in found[:-1]] == [same(stage) for stage in by_hand[:-1]]


@pytest.mark.parametrize("solver", EITHER)
def test_the_stages_of_a_pilot_that_wanted_a_shorter_step_are_not_taken_over(calibration, solver):
    model = chita.load_model("digits-cnn")
    options = {
        "sparsity": 0.97,
        "stages": chita.Stages(6, schedule="constant"),
        "solver": solver,
        "fisher": chita.Fisher(samples=80, structure="full"),
        "validation": 60,
    }
    found = chita.prune(model, calibration, **options).record.stages
    assert found[0].step_size < 1
    assert {trial.step_size for trial in found[0].trials if trial.stages} == {1.0}
    chosen = found[0].ridge
    by_hand = chita.prune(
        model, calibration, quadratic=chita.Quadratic(ridge=chosen), **options
    ).record.stages
    assert [same(stage) for stage in found[:-1]] == [same(stage) for stage in by_hand[:-1]]


def same(stage):
    """All of a stage's record but the trials before it, the time and the memory."""
    return stage.model_dump(exclude={"trials", "seconds", "memory_mb"})


class Loop:
    """A loop of stages whose pilots come to the losses that are listed for them, stage by stage.

    `listed(ridge, structure)` are those, None for a stage that cannot be solved. The mean
    curvature is 2, so that λ = 1 is tried first. `shortened`, whether pilots wanted τ < 1.
    """

    def __init__(self, listed, structure="auto", stages=3, *, shortened=False):
        self.listed, self.stages, self.shortened = listed, stages, shortened
        self.tuner = Tuner(chita.Quadratic(), structure, lambda weights: 0.0)
        self.network, self.tried = weighing(-1.0), []

    def copied(self, ridge, structure, place):
        used = 2.0 * float(ridge.removesuffix("x")) if isinstance(ridge, str) else ridge
        self.tried.append((used, structure))
        return Pilot(self, used, structure)


class Pilot:
    """One pilot run of a `Loop`, at a λ and a structure."""

    def __init__(self, loop, ridge, structure):
        self.losses, self.tuner = (
            loop.listed(ridge, structure),
            Tuner(chita.Quadratic(), "auto", None),
        )
        self.choice = (ridge, structure)
        self.tuner.shortened, self.network = loop.shortened, weighing(ridge)

    def run(self, state, until):
        assert not state.records
        for loss in self.losses:
            if loss is None:
                raise NumericalError("no system")
            state.choice = self.choice
            state.records.append(
                StageRecord(
                    **{"sparsity": 0.5, "nnz": 1, "status": "converged", "iterations": 0},
                    **{"first_order": 1.0, "step_size": 1.0, "validation_loss": loss},
                    ridge=self.choice[0],
                    structure=self.choice[1],
                    seconds={},
                )
            )
            if until(state):
                return state
        raise AssertionError("a pilot was not ended")


def weighing(weight):
    """A network of one weight."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def chosen_by(loop):
    """The state after the pilots of a loop."""
    return run_pilots(loop, RunState(mask=torch.ones(1, dtype=torch.bool)))


def chosen(losses, outputs=(), structure="auto"):
    """What is chosen by pilots of one stage, and the pilots that ran.

    Losses are those of λ = 1, 4, 16 ... as listed from 4⁻²; `outputs`, of the Fisher by outputs.
    """

    def listed(ridge, structure):
        place = round(math.log(ridge, 4)) + 2
        own = losses if structure == "full" else outputs
        return [own[place] if 0 <= place < len(own) else 9.0]

    loop = Loop(listed, structure)
    state = chosen_by(loop)
    assert len(state.records) == 1
    assert loop.network.weight.item() == state.choice[0]  # the network of the best
    return state.choice, loop.tried


@pytest.mark.parametrize(
    ("losses", "ridge"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 1.5], 16.0),
        ([1.0, 2.0, 3.0, 3.5, 1.0, 0.0], 1 / 16),
        ([3.0, 2.0, 1.0, 2.0, 3.0, 4.0], 1.0),
        ([0.98, 0.985, 1.0, 0.985, 0.9, 0.9], 1.0),  # no neighbour gains two per cent
        ([1.0, None, 3.0, 2.9, 3.0, 3.0], 4.0),
    ],
)
def test_pilots_climb_downhill_by_clear_steps(losses, ridge):
    choice, tried = chosen(losses)
    assert choice == (ridge, "full")
    assert len(tried) == len(set(tried))
    assert [structure for _, structure in tried].count("outputs") == 1


@pytest.mark.parametrize(
    ("outputs", "ridge", "structure"),
    [
        ([9.0, 9.0, 0.99, 0.5, 0.1, 0.1], 1.0, "full"),  # no clear gain at the first λ
        ([9.0, 0.9, 0.95, 0.95, 0.1, 0.1], 0.25, "outputs"),
        ([0.7, 0.8, 0.9, 1.0, 1.0, 1.0], 1 / 16, "outputs"),
        ([0.7, None, 0.9, 1.0, 1.0, 1.0], 1.0, "outputs"),
        ([0.7, 0.8, None, 1.0, 1.0, 1.0], 1.0, "full"),
    ],
)
def test_the_structure_is_tried_at_the_first_ridge_which_climbs_from_there(
    outputs, ridge, structure
):
    choice, tried = chosen([3.0, 2.0, 1.0, 2.0, 3.0, 4.0], outputs)
    assert choice == (ridge, structure)
    assert tried[:2] == [(1.0, "full"), (1.0, "outputs")]
    assert {own for _, own in tried[2:]} == {structure}


def after_three_stages(paths):
    """The state after pilots of three stages, whose losses are listed for every λ."""
    return chosen_by(Loop(lambda ridge, _: paths[ridge], "full", stages=9))


def test_a_pilot_that_falls_behind_is_not_finished_and_not_chosen():
    state = after_three_stages({
        1.0: [1.0, 1.0, 1.0],
        4.0: [1.04, 0.9, 0.5],
        16.0: [0.5, 0.96, 0.1],
    })
    assert state.choice == (4.0, "full")
    assert [record.validation_loss for record in state.records] == [1.04, 0.9, 0.5]
    assert [(t.ridge, t.stages, t.loss) for t in state.records[0].trials] == [
        (1.0, 3, 1.0),
        (4.0, 3, 0.5),  # not 5 % behind
        (16.0, 2, 0.96),  # more than 5 % behind the best so far, at the second stage
    ]


def test_a_pilot_that_ended_early_is_not_chosen_for_its_loss_at_that_stage():
    """Losses grow from stage to stage, so the first one is no loss of the last."""
    state = after_three_stages({1.0: [1.0, 2.0, 3.0], 4.0: [1.2], 0.25: [1.2]})
    assert state.choice[0] == 1.0


@pytest.mark.parametrize("structure", ["full", "outputs"])
def test_a_structure_that_is_given_is_the_only_one_tried(structure):
    losses = [3.0, 2.0, 1.0, 2.0, 3.0, 4.0]
    choice, tried = chosen(losses, losses, structure)
    assert choice == (1.0, structure)
    assert {own for _, own in tried} == {structure}


def test_only_the_choice_of_a_pilot_that_wanted_a_shorter_step_is_taken_over():
    losses = {1.0: 2.0, 4.0: 1.0, 16.0: 1.5, 0.25: 3.0}
    loop = Loop(lambda ridge, _: [losses[ridge]], "full", shortened=True)
    state = chosen_by(loop)
    assert state.choice == (4.0, "full")
    assert [trial.ridge for trial in state.trials] == [1.0, 4.0, 16.0]
    assert not state.records
    assert [*state.spent] == ["pilot"]
    assert loop.network.weight.item() == -1.0


@pytest.mark.parametrize(
    ("solvable", "firsts", "ridge"),
    [
        (10.0, [1.0, 16.0], 16.0),
        (100.0, [1.0, 16.0, 256.0], 256.0),
        (1e4, [1.0, 16.0, 256.0], None),  # the stages choose for themselves
    ],
)
def test_where_the_first_ridge_cannot_be_solved_two_larger_ones_are_tried(solvable, firsts, ridge):
    loop = Loop(lambda ridge, _: [1.0 if ridge >= solvable else None], "full")
    state = chosen_by(loop)
    assert (state.choice and state.choice[0]) == ridge
    assert loop.tried[: len(firsts)] == [(first, "full") for first in firsts]
    assert len(loop.tried) == len(firsts) + (0 if ridge is None else 2)  # and its two neighbours


def test_there_are_no_pilots_where_nothing_is_to_be_chosen_or_there_is_one_stage(calibration):
    model = chita.load_model("digits-mlp")
    normed = chita.load_model("digits-cnn")
    for network, options in (
        (model, {"stages": 4, "quadratic": chita.Quadratic(ridge=0.02)}),
        (model, {"stages": 1}),
        (normed, {"stages": 4, "solver": "magnitude"}),
    ):
        usual = {"sparsity": 0.9, "solver": "bso", "fisher": chita.Fisher(samples=60)}
        stages = chita.prune(network, calibration, **{**usual, **options}).record.stages
        assert not any(trial.stages for stage in stages for trial in stage.trials)
        assert "pilot" not in stages[0].seconds


def test_a_given_ridge_is_kept_and_s_is_one_until_the_last_stage(calibration):
    model = chita.load_model("digits-mlp")
    stages = chita.prune(
        model,
        calibration,
        sparsity=0.9,
        stages=5,
        solver="bso",
        fisher=chita.Fisher(samples=60),
        quadratic=chita.Quadratic(ridge=0.02),
    ).record.stages
    assert {stage.ridge for stage in stages} == {0.02}
    assert {stage.first_order for stage in stages[:-1]} == {1.0}


def test_batches_that_come_one_after_another_have_pilots_too(calibration):
    model = chita.load_model("digits-mlp")
    batches = list(calibration.batches(64))
    options = {"solver": "bso", "fisher": chita.Fisher(samples=100), "validation": 100}
    stages = chita.prune(model, batches, sparsity=0.9, stages=4, **options).record.stages
    assert any(trial.stages for trial in stages[0].trials)


@dataclass(frozen=True, kw_only=True)
class Needing(BSO):
    """A back-solve that fails below a ridge, in brief solves too."""

    least: float = 0.0

    def _search(self, problem, constraint, start):
        if problem.ridge < self.least:
            raise NumericalError("too small")
        return super()._search(problem, constraint, start)


@pytest.mark.parametrize("stages", [1, 4])
def test_a_chosen_ridge_is_raised_where_no_system_can_be_solved(calibration, stages):
    model = chita.load_model("digits-mlp")
    options = {"sparsity": 0.9, "stages": stages, "fisher": chita.Fisher(samples=60)}
    least = 50.0
    found = chita.prune(model, calibration, solver=Needing(least=least), **options).record.stages
    assert all(least <= stage.ridge < 1e4 for stage in found)
    with pytest.raises(NumericalError, match="too small"):
        chita.prune(
            model,
            calibration,
            solver=Needing(least=least),
            quadratic=chita.Quadratic(ridge=0.1),
            **options,
        )
    with pytest.raises(NumericalError, match="too small"):
        chita.prune(model, calibration, solver=Needing(least=1e300), **options)
    assert torch.isfinite(torch.tensor([stage.validation_loss for stage in found])).all()
