"""Stages against pruning by hand, and what their records say."""

import itertools
import math

import pytest
import torch

import chita
from chita.data.digits import digits
from chita.data.sampler import make_sampler
from chita.models.mode import evaluation_mode
from chita.pruning.schedule import SCHEDULES
from tests.conformance.table import BY_GRADIENTS, QUICK, SEARCHING
from tests.pruning.cases import ASKED, EITHER, GIVEN, in_turn


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def weights_of(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def drawn_as_they_are(examples):
    """The same samples in such an order that a run that draws all of them has them as given."""
    places = torch.arange(len(examples))
    order, _ = make_sampler((places, places), seed=0).draw(len(examples)).batch
    return examples.take(order.argsort())


def test_stages_are_prunings_one_after_another(calibration):
    model = chita.load_model("digits-mlp")
    found = chita.prune(
        model,
        calibration,
        stages=chita.Stages(schedule=[0.5, 0.8, 0.9]),
        fisher=chita.Fisher(samples=150),
        validation=40,
        seed=5,
        sparsity=0.9,
        **GIVEN,
    )
    sampler = make_sampler(calibration, seed=5, validation=40)
    by_hand = model
    brief = {**GIVEN, "solver": chita.solvers.BSO().brief}
    for sparsity, fixed in ((0.5, brief), (0.8, brief), (0.9, GIVEN)):
        result = chita.prune(
            by_hand,
            drawn_as_they_are(sampler.draw(150)),
            sparsity=sparsity,
            fisher=chita.Fisher(samples=150),
            validation=0,
            **fixed,
        )
        by_hand = result.model
    assert equal(weights_of(found.model), weights_of(by_hand))
    assert [stage.sparsity for stage in found.record.stages] == pytest.approx(
        [0.5, 0.8, 0.9], abs=1 / found.record.prunable
    )
    assert found.objective == result.objective == found.record.stages[-1].objective


def follow(calibration, subtests, pairs, quadratic):
    """A solver prunes in three stages on a schedule, pair by pair."""
    model = chita.load_model("digits-mlp")
    for solver, schedule in pairs:
        with subtests.test(solver=solver, schedule=schedule):
            result = chita.prune(
                model,
                calibration,
                budget=chita.Nonzeros(1000),
                stages=chita.Stages(3, schedule=schedule),
                solver=QUICK[solver],
                fisher=chita.Fisher(samples=40),
                quadratic=quadratic,
            )
            counts = [stage.nnz for stage in result.record.stages]
            assert counts == sorted(counts, reverse=True)
            assert counts[-1] == 1000 == sum(int(mask.sum()) for mask in result.masks.values())
            assert all(not result.model.get_parameter(n)[~m].any() for n, m in result.masks.items())


def test_solvers_follow_schedules(calibration, subtests):
    quick = [solver for solver in BY_GRADIENTS if solver not in SEARCHING]
    pairs = in_turn(quick, SCHEDULES, each=2)
    follow(calibration, subtests, pairs, chita.Quadratic(ridge=0.1, first_order=1.0))


@pytest.mark.slow
def test_every_solver_follows_every_schedule_and_chooses_for_itself(calibration, subtests):
    pairs = itertools.product(BY_GRADIENTS, SCHEDULES)
    follow(calibration, subtests, pairs, chita.Quadratic())


@pytest.mark.parametrize("sparsity", [0.9, 0.7, 1 / 3, 0.123])
def test_a_constant_schedule_keeps_the_final_number_in_every_stage(calibration, sparsity):
    model = chita.load_model("digits-mlp")
    result = chita.prune(
        model,
        sparsity=sparsity,
        stages=chita.Stages(3, schedule="constant", regrow=False),
        solver="magnitude",
    )
    assert len({stage.nnz for stage in result.record.stages}) == 1


def test_pruned_weights_return_only_where_they_may(calibration):
    model = chita.load_model("digits-mlp")
    brief = chita.solvers.IHT(max_iterations=30).brief
    assert brief.brief == brief
    returned = {}
    for regrow in (True, False):
        masks = []
        for sparsities in ([0.9], [0.9] * 2, [0.9] * 3):
            result = chita.prune(
                model,
                calibration,
                stages=chita.Stages(schedule=sparsities, regrow=regrow),
                sparsity=sparsities[-1],
                fisher=chita.Fisher(samples=60),
                solver=brief,  # which is its own brief form, so that prefixes are the same
                quadratic=GIVEN["quadratic"],
            )
            masks.append(torch.cat([m.flatten() for m in result.masks.values()]))
        returned[regrow] = sum(int((b & ~a).sum()) for a, b in itertools.pairwise(masks))
    assert returned[False] == 0
    assert returned[True] > 0


def test_the_validation_loss_is_that_of_samples_that_made_no_gradient(calibration):
    model = chita.load_model("digits-mlp")
    result = chita.prune(
        model,
        calibration,
        sparsity=0.95,
        stages=2,
        solver="bso",
        fisher=chita.Fisher(samples=300),
        validation=100,
        seed=2,
    )
    inputs, targets = make_sampler(calibration, seed=2, validation=100).validation.batch
    with torch.no_grad(), evaluation_mode(result.model):
        loss = float(torch.nn.functional.cross_entropy(result.model(inputs), targets))
    assert result.record.stages[-1].validation_loss == pytest.approx(loss, rel=1e-5)
    assert result.record.validation == 100


def test_a_stage_records_what_it_began_with_and_how_it_went(calibration):
    model = chita.load_model("digits-mlp")
    record = chita.prune(
        model,
        calibration,
        sparsity=0.9,
        stages=3,
        fisher=chita.Fisher(samples=60),
        quadratic=GIVEN["quadratic"],
        solver=chita.solvers.IHT(bound=True),
    ).record
    sampler = make_sampler(calibration, seed=0, validation=record.validation)
    with evaluation_mode(model), torch.no_grad():
        inputs, targets = sampler.validation.batch
        loss = float(torch.nn.functional.cross_entropy(model(inputs), targets))
    assert record.stages[0].loss_before == pytest.approx(loss, rel=1e-5)
    for before, after in itertools.pairwise(record.stages):
        assert after.loss_before == pytest.approx(before.validation_loss, rel=1e-6)
    for stage in record.stages:
        assert len(stage.trace) == stage.iterations + 1
        assert stage.trace[-1] < stage.trace[0]
        assert list(stage.increases) == [layer.name for layer in record.layers]
        assert all(cost > 0 for cost in stage.increases.values())
        assert stage.memory_mb.keys() == stage.seconds.keys() - {"pilot"}
    assert [stage.lower_bound for stage in record.stages] == [None, None, record.lower_bound]
    uninformed = chita.prune(model, calibration, sparsity=0.9, solver="magnitude").record.stages[0]
    assert not uninformed.trace
    assert not uninformed.increases


@pytest.mark.parametrize("solver", EITHER)
def test_what_is_chosen_was_the_best_of_what_was_tried(calibration, solver):
    model = chita.load_model("digits-mlp")
    stage = chita.prune(
        model, calibration, sparsity=0.9, solver=solver, fisher=chita.Fisher(samples=400)
    ).record.stages[0]
    assert stage.trials
    losses = [trial.loss for trial in stage.trials if trial.loss is not None]
    assert stage.validation_loss <= min(losses) * 1.05
    assert (stage.ridge, stage.first_order) in {(t.ridge, t.first_order) for t in stage.trials}
    assert len({trial.ridge for trial in stage.trials}) > 2
    fixed = chita.prune(
        model, calibration, sparsity=0.9, fisher=chita.Fisher(samples=400), **GIVEN
    ).record.stages[0]
    assert not fixed.trials
    assert (fixed.ridge, fixed.first_order, fixed.step_size) == (0.02, 1.0, 1.0)


@pytest.mark.slow
def test_a_seed_gives_the_same_bits(calibration):
    model = chita.load_model("digits-cnn")
    runs = [
        chita.prune(
            model, calibration, sparsity=0.9, stages=2, fisher=chita.Fisher(samples=60), seed=s
        )
        for s in (1, 1, 2)
    ]
    first, again, other = ({n: t.clone() for n, t in r.model.state_dict().items()} for r in runs)
    assert equal(first, again)
    assert not equal(first, other)
    assert runs[0].record.data_hash == runs[1].record.data_hash != runs[2].record.data_hash


@pytest.mark.parametrize("asked", ASKED)
def test_batch_norms_are_estimated_again(calibration, asked):
    model = chita.load_model("digits-cnn")
    done, without = (
        chita.prune(
            model,
            calibration,
            sparsity=0.9,
            fisher=chita.Fisher(samples=100),
            stages=chita.Stages(bn_recalibrate=on),
            **asked,
        )
        for on in (True, False)
    )
    told = done.record.batch_norm
    assert without.record.batch_norm is None
    assert (told.layers, told.samples, told.taken) == (
        3,
        1247,
        True,
    )  # all but those for validation
    assert told.loss_after < told.loss_before
    assert torch.equal(without.model.bn1.running_mean, model.bn1.running_mean)
    assert not torch.equal(done.model.bn1.running_mean, model.bn1.running_mean)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("stages", [1, 2])
def test_statistics_that_are_no_better_are_not_taken(calibration, stages, asked):
    model = chita.load_model("digits-cnn")
    done, without = (
        chita.prune(
            model,
            calibration,
            sparsity=0.3,
            stages=chita.Stages(stages, bn_recalibrate=on),
            fisher=chita.Fisher(samples=100),
            **asked,
        )
        for on in (True, False)
    )
    told = done.record.batch_norm
    assert not told.taken
    assert told.loss_before < told.loss_after
    assert equal(done.model.state_dict(), without.model.state_dict())


def test_a_run_without_validation_samples_takes_the_new_statistics(calibration):
    model = chita.load_model("digits-cnn")
    done = chita.prune(model, calibration, solver="magnitude", sparsity=0.1, validation=0)
    told = done.record.batch_norm
    assert (told.loss_before, told.loss_after, told.taken) == (None, None, True)
    assert not torch.equal(done.model.bn1.running_mean, model.bn1.running_mean)


class Stop(Exception):
    pass


class Stopping:
    """Progress that stops the run when a stage begins to solve."""

    def __init__(self, at):
        self.at = at

    def start(self, task, total, unit):
        if f"stage {self.at} of" in task and "solve" in task:
            raise Stop

    def advance(self, amount):
        pass

    def finish(self):
        pass

    def report(self, task, values):
        pass


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("digits-mlp", 2),
        *[pytest.param("digits-mlp", at, marks=pytest.mark.slow) for at in (1, 4)],
        *[pytest.param("digits-cnn", at, marks=pytest.mark.slow) for at in (1, 2, 4)],
    ],
)
@pytest.mark.parametrize("solver", EITHER)
def test_a_run_goes_on_to_the_same_bits(calibration, tmp_path, at, name, solver):
    model = chita.load_model(name)
    path = tmp_path / "run.unfinished"
    options = {
        "sparsity": 0.9,
        "stages": chita.Stages(4, regrow=False),
        "solver": solver,
        "fisher": chita.Fisher(samples=60),
    }
    whole = chita.prune(model, calibration, **options)
    with pytest.raises(Stop):
        chita.prune(model, calibration, **options, checkpoint=path, progress=Stopping(at))
    assert path.exists() == (at > 1)
    again = chita.prune(
        model, calibration, **options, checkpoint=chita.Checkpoint(path, resume=True)
    )
    assert equal(dict(whole.model.state_dict()), dict(again.model.state_dict()))
    stages = [
        [stage.model_copy(update={"seconds": {}, "memory_mb": {}}) for stage in run.record.stages]
        for run in (whole, again)
    ]
    assert stages[0] == stages[1]
    assert whole.record.data_hash == again.record.data_hash
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_only_as_it_began(calibration, tmp_path):
    model = chita.load_model("digits-mlp")
    path = tmp_path / "run.unfinished"
    options = {"sparsity": 0.9, "stages": 3, "fisher": chita.Fisher(samples=60), "solver": "bso"}
    options["checkpoint"] = chita.Checkpoint(path, resume=True)
    with pytest.raises(Stop):
        chita.prune(model, calibration, **options, progress=Stopping(3))
    kept = path.read_bytes()
    inputs, targets = calibration.batch
    other = chita.load_model("digits-mlp")
    with torch.no_grad():
        other.fc1.bias.add_(1)
    for given, data, changed, told in (
        (model, calibration, {"checkpoint": path}, "holds the finished part of an earlier run"),
        (model, calibration, {"fisher": chita.Fisher(samples=70)}, "`samples` was 60 and is 70"),
        (model, calibration, {"solver": "chita"}, "`solver` was 'bso' and is 'chita'"),
        (model, calibration, {"stages": 4}, "`stages` was 3 and is 4"),
        (model, (inputs + 1, targets), {}, "calibration data differ"),
        (other, calibration, {}, "network with other weights"),
    ):
        with pytest.raises(chita.InputError, match=told):
            chita.prune(given, data, **{**options, **changed})
        assert path.read_bytes() == kept
    path.write_bytes(kept[:100])
    with pytest.raises(chita.InputError, match="cannot be read"):
        chita.prune(model, calibration, **options)


@pytest.mark.parametrize("asked", ASKED)
def test_an_error_in_a_later_stage_leaves_an_inplace_network_as_it_was(calibration, asked):
    model = chita.load_model("digits-cnn")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(Stop):
        chita.prune(
            model,
            calibration,
            sparsity=0.9,
            stages=3,
            fisher=chita.Fisher(samples=60),
            inplace=True,
            progress=Stopping(2),
            **asked,
        )
    assert equal(before, dict(model.state_dict()))


def test_refusals(calibration):
    model = chita.load_model("digits-mlp")
    inputs, targets = calibration.batch
    few, budget, fisher = (inputs[:50], targets[:50]), chita.Nonzeros(500), chita.Fisher(samples=50)
    with pytest.raises(chita.InputError, match=r"which leaves 0 for validation"):
        chita.prune(model, few, budget=budget, fisher=fisher)
    found = chita.prune(model, few, budget=budget, fisher=fisher, **GIVEN)
    assert (found.record.validation, found.record.stages[0].validation_loss) == (0, None)
    assert chita.prune(model, few, budget=budget, solver="bso").record.samples == 40
    with pytest.raises(chita.InputError, match="improved Fisher needs a loss that compares"):
        chita.prune(
            model,
            calibration,
            budget=budget,
            fisher=chita.Fisher(weighting="improved"),
            loss=lambda m, b: m(b[0]).square().mean(),
        )
    assert math.isfinite(found.objective)
