"""The bound: never above the optimum, and near it where the problem is well posed."""

from dataclasses import replace
from itertools import product

import pytest
import torch

import chita
from chita.constraints import Exactly, KeepK
from chita.data.digits import digits
from chita.errors import InputError
from chita.problem import lower_bound
from chita.problem.bound import _bound
from chita.solvers import BSO, CHITA, SOLVERS
from tests.conformance.table import BY_GRADIENTS
from tests.dense import allowed_supports
from tests.problems import random_problem

CASES = [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(4, 10, 3), (20, 12, 5), (6, 12, 10), (3, 8, 4)]
    for first_order, ridge in [(0.0, 1e-3), (0.0, 0.1), (1.0, 0.1), (1.0, 1e-3), (0.0, 2.0)]
    for seed in range(3)
]


def test_never_above_the_optimum(subtests):
    """Every second case: each size, ridge and first order, and seed six times or more."""
    for case in CASES[::2]:
        with subtests.test(case=case):
            check_never_above(*case)


@pytest.mark.slow
def test_never_above_the_optimum_at_any_seed(subtests):
    for case in CASES:
        with subtests.test(case=case):
            check_never_above(*case)


def check_never_above(n, p, k, first_order, ridge, seed):
    problem, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    best = dense.best(k)
    constraint = KeepK(size=p, k=k)
    for mask in (constraint.select(problem.w_bar.abs()), CHITA().solve(problem, constraint).mask):
        minimum = problem.minimise_on(mask.nonzero().flatten())
        for steps in (0, 5, 60):
            bound = lower_bound(problem, constraint, minimum, steps=steps)
            assert bound <= best + 1e-9 * abs(best) + 1e-12


def test_steps_raise_it_and_a_strong_ridge_closes_the_gap():
    """As λ grows, H + λI becomes λI, whose optimum is known: the gap goes to zero."""
    for seed, ridge in product(range(6), (2.0, 200.0)):
        problem, _ = random_problem(30, 200, ridge=ridge, first_order=0.0, seed=seed)
        constraint = KeepK(size=200, k=60)
        found = CHITA().solve(problem, constraint)
        minimum = problem.minimise_on(found.mask.nonzero().flatten())
        first, last = (lower_bound(problem, constraint, minimum, steps=steps) for steps in (0, 60))
        if ridge == 2:
            assert first < last
        else:
            assert (found.objective - last) / found.objective < 1e-3
        assert last <= found.objective * (1 + 1e-12)


def test_for_one_allowed_mask_it_is_the_minimum():
    problem, dense = random_problem(6, 12, ridge=0.1, first_order=1.0, seed=0)
    constraint = Exactly(mask=torch.arange(12) % 3 == 0)
    exact = dense.value(dense.minimise_on([0, 3, 6, 9]))
    found = BSO(bound=True).solve(problem, constraint)
    assert found.lower_bound == pytest.approx(exact, rel=1e-9)


def test_floors_bound_what_floors_allow():
    problem, dense = random_problem(6, 9, ridge=0.1, first_order=0.0, seed=1)
    floors = KeepK(size=9, k=4, segments=(slice(0, 4), slice(4, 6), slice(6, 9)), least=(0, 1, 2))
    free = KeepK(size=9, k=4)
    narrow, wide = (CHITA(bound=True).solve(problem, c) for c in (floors, free))
    assert wide.lower_bound <= dense.best(4) + 1e-12
    best = float(dense.minima(allowed_supports(floors, 4)).min())
    assert 0 < narrow.lower_bound <= best <= narrow.objective + 1e-12


def test_a_ridge_is_needed():
    problem, _ = random_problem(20, 10, ridge=0.0, first_order=0.0, seed=0)
    with pytest.raises(InputError, match="ridge above zero"):
        BSO(bound=True).solve(problem, KeepK(size=10, k=3))


@pytest.mark.parametrize("solver", BY_GRADIENTS)
@pytest.mark.slow
def test_the_bound_and_the_gap_stand_in_the_record(solver):
    model = chita.load_model("digits-mlp")
    options = {
        "budget": chita.Nonzeros(2000),
        "fisher": chita.Fisher(samples=60),
        "quadratic": chita.Quadratic(ridge=0.1, first_order=1.0),
    }
    plain = chita.prune(model, digits()[0], solver=solver, **options).record
    assert plain.lower_bound is None
    assert plain.gap is None
    proving = SOLVERS[solver](bound=True)
    if not SOLVERS[solver].curvatures:
        with pytest.raises(chita.InputError, match="no bound can be proven"):
            chita.prune(model, digits()[0], solver=proving, **options)
        return
    found = chita.prune(model, digits()[0], solver=proving, **options).record
    assert found.objective == plain.objective
    assert found.lower_bound <= found.objective
    assert found.gap == (found.objective - found.lower_bound) / abs(found.objective)


def test_a_constant_of_the_problem_moves_the_bound_with_it():
    problem, _ = random_problem(6, 12, ridge=0.1, first_order=1.0, seed=0)
    constraint = KeepK(size=12, k=4)
    minimum = problem.minimise_on(torch.arange(4))
    bound = lower_bound(problem, constraint, minimum)
    moved = lower_bound(replace(problem, offset=problem.offset + 2.5), constraint, minimum)
    assert moved == pytest.approx(bound + 2.5, rel=1e-9)


def test_a_step_that_ran_away_bounds_nothing():
    problem, _ = random_problem(6, 12, ridge=0.1, first_order=1.0, seed=0)
    far = torch.full_like(problem.anchor, torch.inf)
    value, _, mask = _bound(problem, KeepK(size=12, k=4), far, exact=True)
    assert value == -torch.inf
    assert (mask.dtype, int(mask.sum())) == (torch.bool, 0)
