"""Coordinate descent against a loop over single coordinates, and at its fixed point."""

from itertools import pairwise

import pytest
import torch

from chita.constraints import KeepK
from chita.solvers import CD
from chita.solvers.cd import _BLOCK
from chita.solvers.solver import Status
from tests.problems import random_problem


@pytest.mark.parametrize("first_order", [0.0, 1.0])
@pytest.mark.parametrize("cycles", [1, 3])
def test_a_cycle_is_one_coordinate_after_another(cycles, first_order):
    k = 2 * _BLOCK + 17  # more than one block, and a part of one
    problem, dense = random_problem(30, 400, ridge=0.1, first_order=first_order, seed=3)
    found = CD(max_cycles=cycles, tolerance=0).solve(problem, KeepK(size=400, k=k))
    weights = torch.where(found.mask, dense.w_bar, 0)
    for _ in range(cycles):
        for j in found.mask.nonzero().flatten().tolist():
            weights[j] -= dense.gradient_at(weights)[j] / dense.hessian[j, j]
    assert torch.allclose(found.weights, weights, atol=1e-10)
    assert found.stats.iterations == cycles


@pytest.mark.parametrize("first_order", [0.0, 1.0])
@pytest.mark.parametrize("ridge", [0.01, 0.3])
def test_cycles_lower_q_down_to_the_back_solve(first_order, ridge):
    problem, dense = random_problem(30, 80, ridge=ridge, first_order=first_order, seed=1)
    constraint = KeepK(size=80, k=40)
    found = CD(max_cycles=20_000, tolerance=0).solve(problem, constraint)
    assert all(later <= earlier for earlier, later in pairwise(found.stats.trace))
    support = found.mask.nonzero().flatten()
    exact = dense.minimise_on(support)
    assert found.objective == pytest.approx(dense.value(exact), rel=1e-6)
    # A fixed point cannot be improved by one coordinate.
    gradient = dense.gradient_at(found.weights)[support]
    gains = 0.5 * gradient**2 / dense.hessian.diagonal()[support]
    assert float(gains.max()) <= 1e-9 * abs(found.objective)
    if first_order == 0:
        largest = constraint.select(dense.w_bar.abs()).nonzero().flatten()
        solved = dense.value(dense.minimise_on(largest))
        assert found.objective == pytest.approx(solved, rel=1e-6)


def test_a_start_gives_the_support_and_the_point():
    problem, _ = random_problem(20, 50, ridge=0.1, first_order=0.0, seed=2)
    start = torch.zeros(50).double()
    start[10:20] = 2.0
    found = CD(max_cycles=0).solve(problem, KeepK(size=50, k=10), start)
    assert torch.equal(found.weights, start)
    moved = CD().solve(problem, KeepK(size=50, k=10), start)
    assert torch.equal(moved.mask, found.mask)
    assert moved.objective < found.objective


def test_the_status_says_if_the_cycles_were_enough():
    problem, _ = random_problem(20, 50, ridge=0.1, first_order=0.0, seed=2)
    constraint = KeepK(size=50, k=10)
    short, enough = (CD(max_cycles=cycles).solve(problem, constraint).status for cycles in (1, 200))
    assert (short, enough) == (Status.ITERATION_LIMIT, Status.CONVERGED)
