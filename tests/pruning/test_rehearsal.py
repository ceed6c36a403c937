"""Rehearsals against the same runs by hand, and λ that is raised where no system can be solved."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

import chita
from chita.data.digits import digits
from chita.errors import NumericalError
from chita.pruning.auto import Chooser
from chita.pruning.pose import Pose
from chita.solvers import BSO


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


@pytest.mark.parametrize(
    ("schedule", "regrow", "earlier"),
    [
        ("constant", False, 1),
        pytest.param("constant", False, 0, marks=pytest.mark.slow),
        pytest.param("exp", True, 0, marks=pytest.mark.slow),
        pytest.param("exp", False, 3, marks=pytest.mark.slow),
        pytest.param("constant", True, 0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_rehearsal_is_the_first_stages_of_a_run(calibration, schedule, regrow, earlier):
    model = chita.load_model("digits-cnn")
    fisher = chita.Fisher(samples=80, history=earlier)
    stages = chita.Stages(6, schedule=schedule, regrow=regrow)
    options = {"sparsity": 0.9, "stages": stages, "validation": 60, "seed": 3}
    found = chita.prune(model, calibration, fisher=fisher, **options).record.stages
    rehearsed = [trial for trial in found[0].trials if trial.stages]
    finished = [trial for trial in rehearsed if trial.stages == 2]
    assert {trial.stages for trial in rehearsed} <= {1, 2}
    assert {trial.first_order for trial in rehearsed} == {1.0}
    assert len(rehearsed) >= 3
    ((chosen, blocks),) = {(stage.ridge, stage.fisher_blocks) for stage in found[:-1]}
    assert {trial.fisher_blocks for trial in rehearsed} == {"full", "outputs"}
    firsts = []
    for trial in finished:
        by_hand = chita.prune(
            model,
            calibration,
            fisher=replace(fisher, structure=trial.fisher_blocks),
            quadratic=chita.Quadratic(ridge=trial.ridge, step_size=1.0),
            **options,
        ).record.stages
        assert by_hand[1].held_out_loss == trial.loss
        assert trial.step == 1.0
        firsts.append(by_hand[0].held_out_loss)
    assert all(trial.loss > 1.05 * min(firsts) for trial in rehearsed if trial.stages == 1)
    losses = {(trial.ridge, trial.fisher_blocks): trial.loss for trial in finished}
    assert losses[chosen, blocks] <= min(losses.values()) * 1.025
    assert all(not trial.stages for stage in found[1:] for trial in stage.trials)
    by_hand = chita.prune(
        model,
        calibration,
        fisher=replace(fisher, structure=blocks),
        quadratic=chita.Quadratic(ridge=chosen),
        **options,
    ).record.stages
    assert [same(stage) for stage in found[:-1]] == [same(stage) for stage in by_hand[:-1]]


def test_a_rehearsal_that_wanted_a_shorter_step_is_not_kept(calibration):
    model = chita.load_model("digits-cnn")
    options = {
        "sparsity": 0.97,
        "stages": chita.Stages(6, schedule="constant"),
        "fisher": chita.Fisher(samples=80, structure="full"),
        "validation": 60,
    }
    found = chita.prune(model, calibration, **options).record.stages
    assert found[0].step < 1
    assert {trial.step for trial in found[0].trials if trial.stages} == {1.0}
    chosen = found[0].ridge
    by_hand = chita.prune(
        model, calibration, quadratic=chita.Quadratic(ridge=chosen), **options
    ).record.stages
    assert [same(stage) for stage in found[:-1]] == [same(stage) for stage in by_hand[:-1]]


def same(stage):
    """All of a stage's record but the trials before it, the time and the memory."""
    return stage.model_dump(exclude={"trials", "seconds", "memory_mb"})


def told(losses, outputs=(), **given):
    """What a `Chooser` chooses by rehearsals with losses of λ = 1, 4, 16 ... as listed from 4⁻².

    `outputs` are those with the Fisher in blocks.
    """
    tried = []

    def run(ridge, blocks, hopeless):
        used = 1.0 if isinstance(ridge, str) else ridge
        tried.append((used, blocks))
        place = round(math.log(used, 4)) + 2
        listed = losses if blocks == "full" else outputs
        loss = listed[place] if 0 <= place < len(listed) else 9.0
        if loss is None:
            raise NumericalError("no system")
        return [SimpleNamespace(ridge=used, held_out_loss=loss, first_order=1.0, step=1.0)]

    chooser = Chooser(Pose(**given), judge=lambda weights: 0.0)
    assert chooser.rehearse(run) == tuple(chooser.state.values())
    return chooser.state, tried


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
def test_rehearsals_climb_downhill_by_clear_steps(losses, ridge):
    state, tried = told(losses)
    assert state == {"ridge": ridge, "fisher_blocks": "full"}
    assert len(tried) == len(set(tried))
    assert [blocks for _, blocks in tried].count("outputs") == 1


@pytest.mark.parametrize(
    ("outputs", "ridge", "blocks"),
    [
        ([9.0, 9.0, 0.99, 0.5, 0.1, 0.1], 1.0, "full"),  # no clear gain at the first λ
        ([9.0, 0.9, 0.95, 0.95, 0.1, 0.1], 0.25, "outputs"),
        ([0.7, 0.8, 0.9, 1.0, 1.0, 1.0], 1 / 16, "outputs"),
        ([0.7, None, 0.9, 1.0, 1.0, 1.0], 1.0, "outputs"),
        ([0.7, 0.8, None, 1.0, 1.0, 1.0], 1.0, "full"),
    ],
)
def test_blocks_are_tried_at_the_first_ridge_and_climb_from_there(outputs, ridge, blocks):
    state, tried = told([3.0, 2.0, 1.0, 2.0, 3.0, 4.0], outputs)
    assert state == {"ridge": ridge, "fisher_blocks": blocks}
    assert tried[:2] == [(1.0, "full"), (1.0, "outputs")]
    assert {tried_blocks for _, tried_blocks in tried[2:]} == {blocks}


def rehearsed(paths):
    """A `Chooser` after rehearsals whose losses, stage by stage, are listed for every λ."""

    def run(ridge, blocks, hopeless):
        used, records = 1.0 if isinstance(ridge, str) else ridge, []
        for loss in paths[used]:
            told = {"ridge": used, "held_out_loss": loss, "first_order": 1.0, "step": 1.0}
            records.append(SimpleNamespace(**told))
            if hopeless(records):
                break
        return records

    chooser = Chooser(Pose(structure="full"), judge=lambda weights: 0.0)
    chooser.rehearse(run)
    return chooser


def test_a_rehearsal_that_falls_behind_is_not_finished_and_not_chosen():
    chooser = rehearsed({1.0: [1.0, 1.0, 1.0], 4.0: [1.04, 0.9, 0.5], 16.0: [0.5, 0.96, 0.1]})
    assert chooser.state == {"ridge": 4.0, "fisher_blocks": "full"}
    assert [(t.ridge, t.stages, t.loss) for t in chooser.trials] == [
        (1.0, 3, 1.0),
        (4.0, 3, 0.5),  # not 5 % behind
        (16.0, 2, 0.96),  # more than 5 % behind the best so far, at the second stage
    ]


def test_a_rehearsal_that_ended_early_is_not_chosen_for_its_loss_at_that_stage():
    """Losses grow from stage to stage, so the first one is no loss of the last."""
    chooser = rehearsed({1.0: [1.0, 2.0, 3.0], 4.0: [1.2], 0.25: [1.2]})
    assert chooser.state["ridge"] == 1.0


@pytest.mark.parametrize("blocks", ["full", "outputs"])
def test_blocks_that_are_given_are_not_tried(blocks):
    losses = [3.0, 2.0, 1.0, 2.0, 3.0, 4.0]
    state, tried = told(losses, losses, structure=blocks)
    assert state == {"ridge": 1.0, "fisher_blocks": blocks}
    assert {tried_blocks for _, tried_blocks in tried} == {blocks}


def test_nothing_is_rehearsed_where_nothing_is_to_be_chosen_or_there_is_one_stage(calibration):
    model = chita.load_model("digits-mlp")
    normed = chita.load_model("digits-cnn")
    for network, options in (
        (model, {"stages": 4, "quadratic": chita.Quadratic(ridge=0.02)}),
        (model, {"stages": 1}),
        (normed, {"stages": 4, "solver": "magnitude"}),
    ):
        stages = chita.prune(
            network, calibration, sparsity=0.9, fisher=chita.Fisher(samples=60), **options
        ).record.stages
        assert not any(trial.stages for stage in stages for trial in stage.trials)
        assert "rehearse" not in stages[0].seconds


def test_a_given_ridge_is_kept_and_s_is_one_until_the_last_stage(calibration):
    model = chita.load_model("digits-mlp")
    stages = chita.prune(
        model,
        calibration,
        sparsity=0.9,
        stages=5,
        fisher=chita.Fisher(samples=60),
        quadratic=chita.Quadratic(ridge=0.02),
    ).record.stages
    assert {stage.ridge for stage in stages} == {0.02}
    assert {stage.first_order for stage in stages[:-1]} == {1.0}


def test_batches_that_come_one_after_another_are_rehearsed_too(calibration):
    model = chita.load_model("digits-mlp")
    batches = list(calibration.batches(64))
    stages = chita.prune(
        model, batches, sparsity=0.9, stages=4, fisher=chita.Fisher(samples=100), validation=100
    ).record.stages
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
    assert torch.isfinite(torch.tensor([stage.held_out_loss for stage in found])).all()
