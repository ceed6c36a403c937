"""Blocks: one block is `bso`; many are the minima of a block-diagonal problem."""

from itertools import pairwise

import pytest
import torch

from chita.constraints import Exactly, KeepK
from chita.errors import InputError
from chita.problem import LocalQuadratic
from chita.solvers import BSO, CHITA
from chita.solvers.baselines import BlockBSO
from tests.problems import random_problem

CASES = [(n, s, seed) for n in (10, 80) for s in (0.0, 1.0) for seed in range(3)]
every_case = pytest.mark.parametrize(("n", "first_order", "seed"), CASES)


def cut(problem, *ends):
    """The problem with borders between tensors at `ends`."""
    starts = (0, *ends)
    segments = tuple(slice(a, b) for a, b in zip(starts, (*ends, 60), strict=True))
    return LocalQuadratic(
        w_bar=problem.w_bar,
        curvature=problem.curvature,
        ridge=problem.ridge,
        shift=problem.shift,
        segments=segments,
    )


@every_case
def test_one_block_is_bso(n, first_order, seed):
    problem, _ = random_problem(n, 60, ridge=0.1, first_order=first_order, seed=seed)
    whole = BSO().solve(problem, KeepK(size=60, k=20))
    for solver in (BlockBSO(), BlockBSO(block_size=60)):
        block = solver.solve(problem, KeepK(size=60, k=20))
        assert torch.equal(block.mask, whole.mask)
        assert torch.allclose(block.weights, whole.weights, rtol=1e-7, atol=1e-9)
        assert block.objective == pytest.approx(whole.objective, rel=1e-9)


@every_case
def test_blocks_are_the_minima_of_the_block_diagonal_model(n, first_order, seed):
    problem, dense = random_problem(n, 60, ridge=0.1, first_order=first_order, seed=seed)
    problem = cut(problem, 25, 32)
    found = BlockBSO(block_size=10).solve(problem, KeepK(size=60, k=20))
    # 25 = 8 + 8 + 9, 7, 28 = 9 + 9 + 10
    borders = [0, 8, 16, 25, 32, 41, 50, 60]
    hessian = torch.zeros_like(dense.hessian)
    for a, b in pairwise(borders):
        hessian[a:b, a:b] = dense.hessian[a:b, a:b]
    dense.hessian, whole = hessian, dense.hessian
    expected = dense.minimise_on(found.mask.nonzero().flatten())
    assert torch.allclose(found.weights, expected, rtol=1e-7, atol=1e-9)
    dense.hessian = whole
    assert found.objective == pytest.approx(dense.value(found.weights), rel=1e-9)
    if first_order == 0:  # one threshold over all weights
        costs = whole.diagonal() * dense.w_bar.square()
        largest = [s.argsort(descending=True)[:20] for s in (dense.w_bar.abs(), costs)]
        chosen = set(found.mask.nonzero().flatten().tolist())
        assert chosen in [set(index.tolist()) for index in largest]


def test_the_support_of_lowest_q_is_taken():
    constraint, lower = KeepK(size=60, k=20), 0
    for seed in range(6):
        problem, _ = random_problem(10, 60, ridge=0.1, first_order=0.0, seed=seed)
        plain = BlockBSO(block_size=10).solve(problem, constraint)
        start = CHITA().solve(problem, constraint)
        there = BlockBSO(block_size=10).solve(problem, Exactly(mask=start.mask))
        warm = BlockBSO(block_size=10).solve(problem, constraint, start.weights)
        assert warm.objective == pytest.approx(min(plain.objective, there.objective), rel=1e-9)
        lower += warm.objective < plain.objective
    assert lower


def test_restricting_keeps_the_borders():
    problem, _ = random_problem(10, 60, ridge=0.1, first_order=0.0, seed=1)
    part = cut(problem, 25, 32).restrict(torch.tensor([0, 24, 25, 40, 59]))
    assert part.segments == (slice(0, 2), slice(2, 3), slice(3, 5))


def test_a_part_holds_all_other_weights_at_w_bar():
    problem, dense = random_problem(10, 60, ridge=0.1, first_order=1.0, seed=1)
    part = problem.part(slice(10, 20))
    weights = torch.randn(10).double()
    whole = dense.w_bar.clone()
    whole[10:20] = weights
    assert part.value(weights) == pytest.approx(dense.value(whole), rel=1e-9)


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="`block_size` is 0"):
        BlockBSO(block_size=0)
    with pytest.raises(InputError, match="`tries` is 0"):
        BlockBSO(tries=0)
