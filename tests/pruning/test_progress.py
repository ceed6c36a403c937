"""Every long part of a run is a task, which ends with all of it done."""

import time

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.progress import RUN_SECONDS_LEFT
from tests.progress.watching import Remembering

FIXED = {"quadratic": chita.Quadratic(ridge=0.1, first_order=1.0, step_size=1.0)}
TRAINED = chita.Training(epochs=3, events=2, batch=100, rate=0.02)
STAGE = ("collect gradients", "validation loss", "solve", "batch norms")


def run(**options):
    remembering = Remembering()
    model = chita.load_model("digits-cnn")
    usual = {"budget": "sparsity=0.5", "fisher": chita.Fisher(samples=40), "validation": 30}
    options = {**usual, **options}
    result = chita.prune(model, digits()[0].first(200), **options, progress=remembering)
    return remembering, result.record


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {**FIXED, "solver": chita.solvers.CHITA(bound=True)},
            [*STAGE[:2], "solve and bound", STAGE[3]],
        ),
        (
            {"solver": "bso"},
            [
                *("collect gradients", "validation loss"),
                *("choose by full", "try full", "choose step size"),
                *("choose by outputs", "try outputs", "choose step size"),
                *("solve", "choose step size", "batch norms"),
            ],
        ),
        ({**FIXED, "stages": 2}, [f"stage {i} of 2: {task}" for i in (1, 2) for task in STAGE]),
        (
            {"layerwise": True, "solver": "wanda"},
            [
                "order of blocks",
                *(
                    f"{block}, {i} of 4: {task}"
                    for i, block in enumerate(("conv1", "conv2", "conv3", "fc"), 1)
                    for task in ("inputs", "solve", "run")
                ),
                "batch norms",
            ],
        ),
        (
            {
                "training": TRAINED,
                "solver": "magnitude",
                "stages": chita.Stages(bn_recalibrate=False),
            },
            [
                *("event 1 of 2: solve", "epoch 1 of 3"),
                *("event 2 of 2: solve", "epoch 2 of 3", "epoch 3 of 3"),
            ],
        ),
        (
            {**FIXED, "budget": chita.Searched(chita.Sparsity(0.5)), "solver": "magnitude"},
            ["search: measure", *STAGE[1:]],
        ),
    ],
    ids=["bound", "auto", "stages", "layers", "training", "search"],
)
def test_all_that_is_long_is_shown_to_its_end(options, expected):
    remembering, _ = run(**options)
    tasks = [task for task, *_ in remembering.tasks]
    assert tasks == [task for task in expected if task != "fc, 4 of 4: run"]
    assert remembering.running is None
    for task, done, total, unit in remembering.tasks:
        assert done > 0, task
        assert total in (done, 0), task  # unknown are evaluations of Q and trials
        assert total or unit in ("evaluations", "trials"), task


def test_outliers_are_looked_for_in_sight():
    remembering, _ = run(solver="wanda", budget=chita.ByOutliers(0.5))
    assert remembering.tasks[1] == ("outliers", 3, 3, "batches")


def test_what_stages_came_to_is_reported_as_recorded():
    remembering, record = run(**FIXED, stages=4)
    for i, (stage, (task, told)) in enumerate(zip(record.stages, remembering.told, strict=True), 1):
        assert task == f"stage {i} of 4"
        left = told.pop(RUN_SECONDS_LEFT, None)
        assert told == {"objective": stage.objective, "validation_loss": stage.validation_loss}
        spent = sum(sum(done.seconds.values()) for done in record.stages[:i])
        expected = {3: None, 4: 0.0}.get(i, spent / i * (4 - i))
        assert left == (expected and pytest.approx(expected))


def test_pilot_runs_are_told_apart_from_the_run():
    remembering, record = run(
        stages=3,
        fisher=chita.Fisher(samples=40, structure="full"),
        quadratic=chita.Quadratic(first_order=1.0, step_size=1.0),
    )
    places = [task for task, _ in remembering.told]
    assert places[0] == "pilot run 1: stage 1 of 3"
    assert places[-3:] == ["stage 1 of 3", "stage 2 of 3", "stage 3 of 3"]
    assert remembering.told[-3][1]["validation_loss"] == record.stages[0].validation_loss
    assert not any(RUN_SECONDS_LEFT in told for _, told in remembering.told[:-3])


def test_epochs_and_layers_are_reported_as_recorded():
    remembering, record = run(training=TRAINED, solver="magnitude", measure=lambda _: 7.0)
    epochs = [told for task, told in remembering.told if task.startswith("epoch")]
    assert [told["loss"] for told in epochs] == [epoch.loss for epoch in record.training.epochs]
    assert {told["metric"] for told in epochs} == {7.0}
    lefts = [told[RUN_SECONDS_LEFT] for told in epochs]
    assert lefts[0] > 0 == lefts[-1]
    remembering, record = run(solver="wanda")
    errors = {layer.name: {"error": layer.solved.error} for layer in record.layers}
    assert dict(remembering.told) == errors


def test_blocks_are_expected_to_take_as_long_as_those_like_them(monkeypatch):
    now, told = [0.0], Remembering()
    model = nn.Sequential(nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(3)))
    model.register_forward_pre_hook(lambda *_: now.__setitem__(0, now[0] + 1))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    data = torch.randn(40, 6), torch.randint(8, (40,))
    chita.prune(model, data, sparsity=0.5, solver="wanda", progress=told)
    lefts = {task: own[RUN_SECONDS_LEFT] for task, own in told.told if RUN_SECONDS_LEFT in own}
    assert [*lefts] == ["1, 2 of 4", "2, 3 of 4"]  # the first block is like no other
    assert lefts["1, 2 of 4"] == 2 * lefts["2, 3 of 4"] > 0
