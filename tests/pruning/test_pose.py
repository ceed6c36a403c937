"""What is chosen for a method, and what is not."""

import numpy as np
import pytest
import torch

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.pruning.pose import Pose, make_solver, solver_options
from chita.solvers import CBS, CHITA, MFAC, OBD, SNIP, LocalSearch, Random, WoodFisher
from tests.conformance.table import BY_GRADIENTS, SEARCHING, slow_if

NOTHING = {"ridge": "0.1x", "first_order": 0.0, "step": 1.0, "fisher_blocks": "whole"}
CHOSEN = [
    (CHITA(), {}),
    (CBS(), {"fisher_blocks": "whole"}),
    (WoodFisher(), {"first_order": 0.0, "fisher_blocks": "whole"}),
    (MFAC(), {"first_order": 0.0, "fisher_blocks": "whole"}),
    (LocalSearch(), {"fisher_blocks": "whole"}),
    (WoodFisher(update=False), NOTHING),
    (MFAC(update=False), NOTHING),
    (CBS(update=False), NOTHING),
    (OBD(), NOTHING),
    (SNIP(), NOTHING),
    (Random(), NOTHING),
]


@pytest.mark.parametrize(("solver", "plain"), CHOSEN)
def test_what_a_method_pays_no_heed_is_not_chosen(solver, plain):
    settled = Pose().settled(solver)
    auto = dict.fromkeys(NOTHING, "auto")
    found = {name: getattr(settled, name) for name in NOTHING}
    assert found == {**auto, **plain}
    given = Pose(ridge=0.3, first_order=0.5, step=0.25, fisher_blocks="whole")
    assert given.settled(solver) == given


@pytest.fixture(scope="module")
def network():
    return chita.load_model("digits-mlp")[0], digits()[0]


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=slow_if(m in SEARCHING)) for m in BY_GRADIENTS]
)
def test_what_is_not_chosen_changes_nothing(network, method):
    """Another s leaves the weights of a method that has no choice of it as they are, and so on."""
    solver = make_solver(method)
    if not solver.curvatures:
        return
    plain = {**NOTHING, "sparsity": 0.9, "rows": 50, "method": method, "fisher": "empirical"}
    before = chita.prune(*network, **plain).model.state_dict()
    others = {"first_order": 1.0, "step": 0.5}
    for name, value in others.items():
        after = chita.prune(*network, **{**plain, name: value}).model.state_dict()
        same = all(torch.equal(before[key], after[key]) for key in before)
        assert same == (name not in solver.chosen), name


def test_a_run_of_a_method_that_chooses_nothing_tries_nothing(network):
    for method, ridges in (("obd", 0), ("woodfisher", 1), ("bso", 1)):
        stage = chita.prune(*network, sparsity=0.9, rows=50, method=method).record.stages[0]
        assert bool(stage.trials) == bool(ridges)
        scales = {trial.first_order for trial in stage.trials}
        assert scales == {"obd": set(), "woodfisher": {0.0}, "bso": {0.0, 0.5, 1.0}}[method]


def test_a_solver_draws_by_the_seed_of_the_run_unless_it_has_its_own(network):
    assert make_solver("random", seed=3) == Random(seed=3)
    assert make_solver("random", {"seed": 5}, seed=3) == Random(seed=5)
    assert make_solver("cbs", {"draws": 2}, seed=3) == CBS(draws=2, seed=3)
    assert make_solver("bso", seed=3) == make_solver("bso")
    masks = [
        chita.prune(*network, sparsity=0.9, method="random", seed=seed).masks["fc1.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_seeds_of_any_kind_and_size(network):
    solver = make_solver("random", seed=np.int64(3))
    assert solver == Random(seed=3)
    assert type(solver.seed) is int
    for method in ("random", CBS(seed=2**64 + 5, draws=2, max_rounds=1)):
        result = chita.prune(*network, sparsity=0.9, rows=50, method=method, seed=2**64 + 5)
        assert result.record.nnz == 1702


def test_a_solver_inside_takes_the_seed_and_is_told_with_its_options():
    solver = make_solver("local-search", {"solver": "random"}, seed=3)
    assert solver == LocalSearch(solver=Random(seed=3))
    assert solver_options(solver)["solver"] == "random(seed=3)"
    assert solver_options(LocalSearch())["solver"] == "bso"


def test_samples_are_held_out_for_a_method_that_judges(network):
    posed = {"ridge": 0.1, "first_order": 0, "step": 1}
    for update in (True, False):
        method = CBS(update=update, draws=2, max_rounds=2)
        record = chita.prune(*network, sparsity=0.9, method=method, **posed).record
        assert record.held_out
    everything = {"rows": len(network[1]), "sparsity": 0.9, **posed}
    with pytest.raises(InputError, match="held_out 0"):
        chita.prune(*network, method=method, **everything)
    assert not chita.prune(*network, method=method, held_out=0, **everything).record.held_out


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_is_no_number(value):
    with pytest.raises(InputError, match=f"candidates is {value}"):
        make_solver("cbs", {"candidates": value})
    assert make_solver("cbs", {"update": value}) == CBS(update=value)
