"""Options that are tuned for a solver, and those that are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.options import values_of
from chita.pruning.tuning import is_tuned, settle
from chita.solvers import CBS, CHITA, WoodFisher
from chita.solvers.baselines import MFAC, OBD, SNIP, LocalSearch, Random
from chita.solvers.named import make_solver, solver_options
from tests.conformance.table import BY_GRADIENTS, SEARCHING, slow_if

NOTHING = {"ridge": "0.1x", "first_order": 0.0, "step_size": 1.0, "structure": "full"}
CHOSEN = [
    (CHITA(), {}),
    (CBS(), {"structure": "full"}),
    (WoodFisher(), {"first_order": 0.0, "structure": "full"}),
    (MFAC(), {"first_order": 0.0, "structure": "full"}),
    (LocalSearch(), {"structure": "full"}),
    (WoodFisher(update=False), NOTHING),
    (MFAC(update=False), NOTHING),
    (CBS(update=False), NOTHING),
    (OBD(), NOTHING),
    (SNIP(), NOTHING),
    (Random(), NOTHING),
]


@pytest.mark.parametrize(("solver", "plain"), CHOSEN)
def test_what_a_solver_pays_no_heed_is_not_tuned(solver, plain):
    quadratic, structure = settle(chita.Quadratic(), "auto", solver)
    auto = dict.fromkeys(NOTHING, "auto")
    assert {**values_of(quadratic), "structure": structure} == {**auto, **plain}
    assert is_tuned(quadratic, structure) == (plain != NOTHING)
    given = chita.Quadratic(ridge=0.3, first_order=0.5, step_size=0.25)
    assert settle(given, "full", solver) == (given, "full")
    assert not is_tuned(given, "full")


@pytest.fixture(scope="module")
def network():
    return chita.load_model("digits-mlp"), digits()[0]


@pytest.mark.parametrize(
    "solver", [pytest.param(m, marks=slow_if(m in SEARCHING)) for m in BY_GRADIENTS]
)
def test_what_is_not_tuned_changes_nothing(network, solver):
    """Another s leaves the weights of a solver that does not tune it as they are, and so on."""
    made = make_solver(solver)
    if not made.curvatures:
        return
    plain = chita.Quadratic(ridge="0.1x", first_order=0.0, step_size=1.0)

    def pruned(quadratic):
        fisher = chita.Fisher(samples=50, weighting="empirical", structure="full")
        options = {"solver": solver, "fisher": fisher, "quadratic": quadratic}
        return chita.prune(*network, sparsity=0.9, **options).model.state_dict()

    before = pruned(plain)
    for name, value in {"first_order": 1.0, "step_size": 0.5}.items():
        after = pruned(replace(plain, **{name: value}))
        same = all(torch.equal(before[key], after[key]) for key in before)
        assert same == (name not in made.tunable), name


def test_a_run_of_a_solver_that_tunes_nothing_tries_nothing(network):
    for solver, ridges in (("obd", 0), ("woodfisher", 1), ("bso", 1)):
        stage = chita.prune(
            *network, sparsity=0.9, fisher=chita.Fisher(samples=50), solver=solver
        ).record.stages[0]
        assert bool(stage.trials) == bool(ridges)
        scales = {trial.first_order for trial in stage.trials}
        assert scales == {"obd": set(), "woodfisher": {0.0}, "bso": {0.0, 0.5, 1.0}}[solver]


def test_a_solver_draws_by_the_seed_of_the_run_unless_it_has_its_own(network):
    assert make_solver("random", seed=3) == Random(seed=3)
    assert make_solver("random", {"seed": 5}, seed=3) == Random(seed=5)
    assert make_solver("cbs", {"draws": 2}, seed=3) == CBS(draws=2, seed=3)
    assert make_solver("bso", seed=3) == make_solver("bso")
    masks = [
        chita.prune(*network, sparsity=0.9, solver="random", seed=seed).masks["fc1.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_seeds_of_any_kind_and_size(network):
    solver = make_solver("random", seed=np.int64(3))
    assert solver == Random(seed=3)
    assert type(solver.seed) is int
    for solver in ("random", CBS(seed=2**64 + 5, draws=2, max_rounds=1)):
        result = chita.prune(
            *network, sparsity=0.9, fisher=chita.Fisher(samples=50), solver=solver, seed=2**64 + 5
        )
        assert result.record.nnz == 1702


def test_a_seed_of_numpy_trains_as_that_of_python(network):
    options = {
        "sparsity": 0.9,
        "solver": "magnitude",
        "training": chita.Training(epochs=1, events=1),
    }
    runs = [chita.prune(*network, seed=seed, **options) for seed in (3, np.int64(3))]
    ours, others = (run.model.state_dict() for run in runs)
    assert all(torch.equal(ours[name], others[name]) for name in ours)
    assert [run.record.seed for run in runs] == [3, 3]


def test_a_solver_inside_takes_the_seed_and_is_described_with_its_options():
    solver = make_solver("local-search", {"solver": "random"}, seed=3)
    assert solver == LocalSearch(solver=Random(seed=3))
    assert solver_options(solver)["solver"] == "random(seed=3)"
    assert solver_options(LocalSearch())["solver"] == "bso"


def test_there_are_validation_samples_for_a_solver_that_needs_them(network):
    fixed = {"quadratic": chita.Quadratic(ridge=0.1, first_order=0, step_size=1)}
    for update in (True, False):
        solver = CBS(update=update, draws=2, max_rounds=2)
        record = chita.prune(*network, sparsity=0.9, solver=solver, **fixed).record
        assert record.validation
    everything = {"fisher": chita.Fisher(samples=len(network[1])), "sparsity": 0.9, **fixed}
    with pytest.raises(InputError, match="`validation`"):
        chita.prune(*network, solver=solver, **everything)
    assert not chita.prune(*network, solver=solver, validation=0, **everything).record.validation


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_is_no_number(value):
    with pytest.raises(InputError, match=f"candidates is {value}"):
        make_solver("cbs", {"candidates": value})
    assert make_solver("cbs", {"update": value}) == CBS(update=value)
