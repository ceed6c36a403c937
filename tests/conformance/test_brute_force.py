"""Every solver on problems so small that all masks can be looked at."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from chita.constraints import Exactly, KeepK
from chita.solvers import SOLVERS
from tests.conformance.table import QUICK
from tests.dense import allowed_supports
from tests.problems import INSTANCES, problem_for, rounded

every_solver = pytest.mark.parametrize("name", SOLVERS)


def in_turn(name, begin=0):
    """Every fifth instance, from another one for each solver: all sizes, twice all else."""
    return INSTANCES[(begin + list(SOLVERS).index(name)) % 5 :: 5]


@every_solver
def test_feasible_exact_honest_and_not_below_brute_force(name, subtests):
    for instance in in_turn(name):
        with subtests.test(instance=instance):
            check_by_brute_force(QUICK[name], *instance)


@pytest.mark.slow
@every_solver
def test_not_below_brute_force_on_any_instance(name, subtests):
    for instance in INSTANCES:
        with subtests.test(instance=instance):
            check_by_brute_force(SOLVERS[name](), *instance)


def check_by_brute_force(solver, n, p, k, first_order, ridge, seed):
    problem, dense = problem_for(solver, n, p, ridge=ridge, first_order=first_order, seed=seed)
    found = solver.solve(problem, KeepK(size=p, k=k))
    assert int(found.mask.sum()) == k
    assert not found.weights[~found.mask].any()
    assert found.objective == pytest.approx(dense.value(found.weights), rel=1e-9, abs=1e-11)
    best = dense.best(k)
    assert found.objective >= best - 1e-9 * abs(best) - 1e-11


@every_solver
def test_floors_and_fixed_masks_are_kept_and_not_below_brute_force(name, subtests):
    for seed in range(6):
        with subtests.test(seed=seed):
            check_floors(name, QUICK[name], seed)


@pytest.mark.slow
@every_solver
def test_floors_and_fixed_masks_with_all_patience(name, subtests):
    for seed in range(6):
        with subtests.test(seed=seed):
            check_floors(name, SOLVERS[name](), seed)


@cache
def with_supports(seed):
    """Floors and a fixed mask, each with the supports that it allows."""
    segments = (slice(0, 4), slice(4, 6), slice(6, 9))
    floors = KeepK(size=9, k=4, segments=segments, least=(0, 1, 2))
    fixed = Exactly(mask=torch.randperm(9, generator=torch.Generator().manual_seed(seed)) < 4)
    return [(constraint, allowed_supports(constraint, 4)) for constraint in (floors, fixed)]


def check_floors(name, solver, seed):
    problem, dense = problem_for(solver, 6, 9, ridge=0.1, first_order=seed % 2, seed=seed)
    for constraint, supports in with_supports(seed):
        found = solver.solve(problem, constraint)
        assert constraint.allows(found.mask)
        assert not found.weights[~found.mask].any()
        assert found.objective == pytest.approx(dense.value(found.weights), rel=1e-9, abs=1e-11)
        best = float(dense.minima(supports).min())
        assert found.objective >= best - 1e-9 * abs(best) - 1e-11
        if isinstance(constraint, Exactly) and name in ("bso", "chita"):
            assert len(supports) == 1
            assert found.objective == pytest.approx(best, rel=1e-9)


@every_solver
def test_a_bound_is_below_what_is_found_and_changes_nothing(name):
    plain, proving = QUICK[name], replace(QUICK[name], bound=True)
    problem, dense = problem_for(plain, 6, 12, ridge=0.1, first_order=0.0, seed=3)
    constraint = KeepK(size=12, k=4)
    found, once = proving.solve(problem, constraint), plain.solve(problem, constraint)
    assert torch.equal(found.weights, once.weights)
    assert once.lower_bound is None
    assert found.lower_bound <= dense.best(4) + 1e-12


@every_solver
def test_float32_gives_the_objective_of_float64(name, subtests):
    for instance in in_turn(name, begin=2):
        with subtests.test(instance=instance):
            check_float32(QUICK[name], *instance)


@pytest.mark.slow
@every_solver
def test_float32_on_every_instance(name, subtests):
    for instance in INSTANCES:
        with subtests.test(instance=instance):
            check_float32(SOLVERS[name](), *instance)


def check_float32(solver, n, p, k, first_order, ridge, seed):
    """Rows and weights rounded to float32 first: the arithmetic is what is compared."""
    options = {"ridge": ridge, "first_order": first_order}
    problem, _ = problem_for(solver, n, p, **options, seed=seed, dtype=torch.float32)
    exact = rounded(problem, **options)
    found = solver.solve(problem, KeepK(size=p, k=k))
    assert found.objective == pytest.approx(exact.value(found.weights), rel=1e-6)
