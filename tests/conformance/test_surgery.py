"""Scores and updates from the inverse of H, against the dense inverse."""

import pytest
import torch

from chita.constraints import KeepK
from chita.errors import InputError, NumericalError
from chita.problem import DenseRows, GradientGram, LocalQuadratic
from chita.problem.inverse import inverse_of, positive
from chita.solvers import Magnitude, WoodFisher
from chita.solvers.baselines import MFAC, OBD, SNIP, Random
from tests.conformance.table import BUDGETS, LAYOUT, P
from tests.problems import random_problem

SHAPES = [(12, 40), (40, 12), (20, 20), (1, 30)]
every_shape = pytest.mark.parametrize(("n", "p"), SHAPES)
SURGEONS = [WoodFisher(), MFAC()]
every_surgeon = pytest.mark.parametrize("solver", SURGEONS, ids=["woodfisher", "mfac"])


def by_hand(w_bar, inverse, k):
    """Equations 5 and 6 of WoodFisher, with every matrix formed."""
    saliency = w_bar.square() / (2 * inverse.diagonal())
    mask = torch.zeros_like(w_bar, dtype=torch.bool)
    mask[saliency.argsort(descending=True)[:k]] = True
    moved = w_bar.clone()
    for q in (~mask).nonzero().flatten().tolist():
        moved -= w_bar[q] / inverse[q, q] * inverse[:, q]
    return mask, torch.where(mask, moved, 0)


@every_surgeon
@every_shape
@pytest.mark.parametrize("ridge", [1e-5, 1e-3, 0.3])
def test_the_dense_inverse_gives_the_same(solver, n, p, ridge):
    problem, dense = random_problem(n, p, ridge=ridge, first_order=1.0, seed=n)
    inverse = torch.linalg.inv(dense.hessian)
    for k in (0, 1, p // 3, p - 1, p):
        mask, weights = by_hand(dense.w_bar, inverse, k)
        found = solver.solve(problem, KeepK(size=p, k=k))
        assert torch.equal(found.mask, mask)
        assert torch.allclose(found.weights, weights, rtol=1e-6, atol=1e-8)


@every_shape
def test_the_inverse_and_its_products(n, p):
    problem, dense = random_problem(n, p, ridge=0.01, first_order=0.0, seed=3)
    exact = torch.linalg.inv(dense.hessian)
    inverse = inverse_of(problem)
    assert torch.allclose(inverse.diagonal, exact.diagonal(), rtol=1e-9)
    u = torch.randn(p).double()
    assert torch.allclose(inverse.times(u), exact @ u, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block_size", [5, 7, 100])
def test_blocks_are_those_of_the_dense_inverse(block_size):
    problem, dense = random_problem(6, 30, ridge=0.02, first_order=0.0, seed=1)
    problem = LocalQuadratic(
        w_bar=problem.w_bar,
        curvature=problem.curvature,
        ridge=problem.ridge,
        shift=problem.shift,
        segments=(slice(0, 10), slice(10, 30)),
    )
    cuts = {5: [5] * 6, 7: [5, 5, 6, 7, 7], 100: [10, 20]}[block_size]
    inverse = torch.zeros(30, 30).double()
    for end, size in zip(torch.tensor(cuts).cumsum(0).tolist(), cuts, strict=True):
        block = slice(end - size, end)
        inverse[block, block] = torch.linalg.inv(dense.hessian[block, block])
    mask, weights = by_hand(dense.w_bar, inverse, 11)
    found = WoodFisher(block_size=block_size).solve(problem, KeepK(size=30, k=11))
    assert torch.equal(found.mask, mask)
    assert torch.allclose(found.weights, weights, rtol=1e-8, atol=1e-10)


@every_surgeon
@every_shape
def test_one_removal_is_the_best_of_all(solver, n, p):
    """Theorem of OBS: for one weight and no gradient, score and update are exact."""
    problem, dense = random_problem(n, p, ridge=0.05, first_order=0.0, seed=5)
    found = solver.solve(problem, KeepK(size=p, k=p - 1))
    assert found.objective == pytest.approx(dense.best(p - 1), rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("first_order", [0.0, 1.0])
def test_mfac_is_woodfisher_in_one_block(dtype, first_order):
    problem, _ = random_problem(40, 300, ridge=1e-3, first_order=first_order, seed=2, dtype=dtype)
    ours = MFAC().solve(problem, KeepK(size=300, k=90))
    theirs = WoodFisher().solve(problem, KeepK(size=300, k=90))
    assert torch.equal(ours.mask, theirs.mask)
    assert torch.allclose(ours.weights, theirs.weights, rtol=1e-5, atol=1e-6)


@every_surgeon
def test_selection_alone_changes_no_weight(solver):
    problem, _ = random_problem(20, 60, ridge=0.01, first_order=0.0, seed=8)
    both = solver.solve(problem, KeepK(size=60, k=20))
    alone = type(solver)(update=False).solve(problem, KeepK(size=60, k=20))
    assert torch.equal(alone.mask, both.mask)
    assert torch.equal(alone.weights, torch.where(alone.mask, problem.w_bar, 0))
    assert not torch.equal(alone.weights, both.weights)


@every_surgeon
def test_without_a_ridge(solver):
    few, _ = random_problem(10, 30, ridge=0.0, first_order=0.0, seed=0)
    with pytest.raises(InputError, match="ridge"):
        solver.solve(few, KeepK(size=30, k=10))
    many, dense = random_problem(60, 20, ridge=0.0, first_order=0.0, seed=0)
    if isinstance(solver, MFAC):
        with pytest.raises(InputError, match="ridge"):
            solver.solve(many, KeepK(size=20, k=19))
    else:
        found = solver.solve(many, KeepK(size=20, k=19))
        assert found.objective == pytest.approx(dense.best(19), rel=1e-8)


def test_a_ridge_lost_in_rounding_is_an_error():
    rows = torch.ones(1, 8).double()
    rows[0, 0] = 1e10  # whose leverage is 1 to sixteen digits
    problem = LocalQuadratic(
        w_bar=torch.ones(8).double(),
        curvature=GradientGram(DenseRows(rows.T.contiguous())),
        ridge=1e-12,
        shift=torch.zeros(1).double(),
    )
    for solver in SURGEONS:
        with pytest.raises(NumericalError, match="Raise `ridge`"):
            solver.solve(problem, KeepK(size=8, k=4))
    with pytest.raises(NumericalError):
        positive(torch.tensor([1.0, float("nan")]))


def test_obd_is_the_surgery_of_a_diagonal():
    problem, dense = random_problem(9, 50, ridge=0.02, first_order=1.0, seed=4)
    found = OBD().solve(problem, KeepK(size=50, k=15))
    mask, _ = by_hand(dense.w_bar, torch.diag(1 / dense.hessian.diagonal()), 15)
    assert torch.equal(found.mask, mask)
    assert torch.equal(found.weights, torch.where(mask, problem.w_bar, 0))
    assert not torch.equal(mask, Magnitude().solve(problem, KeepK(size=50, k=15)).mask)
    blocks = BUDGETS["Blocks"].bind(LAYOUT)  # where the sum of costs counts, not their order alone
    for seed in range(5):
        problem, _ = random_problem(30, P, ridge=0.02, first_order=0.0, seed=seed)
        costs = (problem.curvature.diagonal() + problem.ridge) * problem.w_bar.square()
        assert torch.equal(OBD().solve(problem, blocks).mask, blocks.select(costs.sqrt()))


@pytest.mark.parametrize("first_order", [0.0, 1.0])
def test_snip_keeps_the_largest_products_with_the_mean_gradient(first_order):
    problem, dense = random_problem(9, 50, ridge=0.02, first_order=first_order, seed=4)
    rows = torch.stack([problem.curvature.image(column) for column in torch.eye(50).double()], 1)
    scores = (rows.mean(0) * dense.w_bar).abs()
    found = SNIP().solve(problem, KeepK(size=50, k=15))
    assert set(found.mask.nonzero().flatten().tolist()) == set(
        scores.argsort(descending=True)[:15].tolist()
    )
    assert torch.equal(found.weights, torch.where(found.mask, problem.w_bar, 0))


def test_random_is_even_seeded_and_nested():
    problem, _ = random_problem(3, 40, ridge=0.1, first_order=0.0, seed=0)
    floors = KeepK(size=40, k=10, segments=(slice(0, 4), slice(4, 40)), least=(3, 0))
    counts = torch.zeros(40)
    for seed in range(2000):
        mask = Random(seed=seed).solve(problem, KeepK(size=40, k=10)).mask
        counts += mask
        if seed < 20:
            more = Random(seed=seed).solve(problem, KeepK(size=40, k=20)).mask
            assert not (mask & ~more).any()
            assert floors.allows(Random(seed=seed).solve(problem, floors).mask)
    # Binomial with mean 500 and deviation 19.4: five deviations.
    assert float((counts - 500).abs().max()) < 97
