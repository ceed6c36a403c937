"""A block-diagonal Fisher against dense algebra."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chita.constraints import KeepK
from chita.problem import (
    BlockGram,
    DenseRows,
    FactoredRows,
    GradientGram,
    HStackRows,
    LocalQuadratic,
    Prices,
    block_gram,
)
from chita.problem.systems import similar
from chita.solvers import BSO, CHITA
from tests.problems import block_problem, random_problem

# n above and below the sizes of blocks: both systems of the back-solve
CASES = [(n, p, cuts, s, ridge) for n, p, cuts in [(4, 12, (5, 7)), (30, 12, (3,)), (2, 9, ())]
         for s, ridge in [(0.0, 0.3), (1.0, 1e-3), (-0.5, 2.0)]]  # fmt: skip
problems = pytest.mark.parametrize(("n", "p", "cuts", "first_order", "ridge"), CASES)
SUPPORTS = [[0], [1, 4], [0, 2, 3, 5, 8], [6], list(range(9))]


@pytest.fixture(autouse=True, params=[0, 2**17], ids=["block by block", "in bulk"])
def in_bulk(request, monkeypatch):
    """Products with few columns go through one block after another, or through all of A."""
    monkeypatch.setattr(block_gram, "_BLOCK_ENTRIES", request.param)


def made(n, p, cuts, first_order, ridge, seed=1):
    return block_problem(n, p, cuts=cuts, first_order=first_order, ridge=ridge, seed=seed)


@problems
def test_value_gradient_and_diagonal(n, p, cuts, first_order, ridge):
    ours, dense = made(n, p, cuts, first_order, ridge)
    for weights in (torch.randn(p).double(), torch.zeros(p).double(), ours.w_bar):
        assert ours.value(weights) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
        assert torch.allclose(ours.gradient_at(weights), dense.gradient_at(weights))
    assert torch.allclose(ours.gradient, dense.gradient)
    curvature = dense.hessian - ridge * torch.eye(p).double()
    assert torch.allclose(ours.curvature.diagonal(), curvature.diagonal())
    index = torch.tensor([0, 3, 4, 6, 8])
    assert torch.allclose(ours.curvature.block(index), curvature[index][:, index])
    v = torch.randn(p).double()
    image = ours.curvature.image(v)
    assert torch.allclose(ours.curvature.pullback(image), curvature @ v)
    assert torch.allclose(ours.curvature.pullback(image, exact=True), curvature @ v)
    assert torch.allclose(ours.curvature.pullback(image, index), (curvature @ v)[index])
    spread = torch.zeros(p).double().index_copy(0, index, v[index])
    assert torch.allclose(ours.curvature.image(v[index], index), ours.curvature.image(spread))
    assert ours.curvature.inner(image, image) == pytest.approx(float(v @ curvature @ v))


@problems
def test_minimum_on_a_support(n, p, cuts, first_order, ridge):
    ours, dense = made(n, p, cuts, first_order, ridge)
    near = None
    for support in SUPPORTS:
        found = ours.minimise_on(torch.tensor(support), near)
        near = found.factor
        expected = dense.minimise_on(support)
        assert torch.allclose(found.weights, expected, rtol=1e-7, atol=1e-9)
        assert found.objective == pytest.approx(dense.value(expected), rel=1e-9, abs=1e-11)
        assert torch.allclose(found.residual, ours.residual(found.weights), atol=1e-9)
    nothing = ours.minimise_on(torch.zeros(0, dtype=torch.long), near)
    assert not nothing.weights.any()
    assert nothing.objective == pytest.approx(dense.value(torch.zeros(p)))


@problems
def test_restriction_is_the_same_function(n, p, cuts, first_order, ridge):
    ours, dense = made(n, p, cuts, first_order, ridge)
    index = torch.tensor([0, 5, 6, 8])  # of the middle block of three, two
    small = ours.restrict(index)
    inside = torch.randn(len(index)).double()
    weights = torch.zeros(p).double().index_copy(0, index, inside)
    assert small.value(inside) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
    assert torch.allclose(small.gradient_at(inside), dense.gradient_at(weights)[index])
    twice = small.restrict(torch.tensor([3]))  # leaves blocks without weights
    weights = torch.zeros(p).double()
    weights[8] = 0.5
    assert twice.value(weights[8:9]) == pytest.approx(dense.value(weights), abs=1e-12)
    found = twice.minimise_on(torch.tensor([0]))
    assert torch.allclose(found.weights, dense.minimise_on([8])[8])


@problems
def test_prices_are_the_exact_changes(n, p, cuts, first_order, ridge):
    ours, dense = made(n, p, cuts, first_order, ridge)
    support = [0, 2, 3, 8]
    mask = torch.zeros(p).bool().index_fill(0, torch.tensor(support), True)
    minimum = ours.minimise_on(torch.tensor(support))
    gradient = ours.gradient_from(minimum.residual, minimum.weights)
    index = torch.tensor([0, 1, 4, 6, 8])
    prices = Prices.at(ours, mask, minimum, gradient, index)
    for moved in ([0], [1], [3], [0, 1], [0, 2, 3, 4]):
        sides = mask.clone()
        sides[index[moved]] ^= True
        after = dense.value(dense.minimise_on(sides.nonzero().squeeze(1).tolist()))
        change = prices.change(torch.tensor(moved))
        assert change == pytest.approx(after - minimum.objective, rel=1e-6, abs=1e-9)


def test_one_block_is_the_whole_fisher_and_every_weight_alone_its_diagonal():
    whole, _ = random_problem(6, 10, ridge=0.1, first_order=1.0, seed=3)
    same, _ = block_problem(6, 10, ridge=0.1, first_order=1.0, seed=3, cuts=())
    support = torch.tensor([0, 3, 4, 7])
    assert torch.allclose(whole.minimise_on(support).weights, same.minimise_on(support).weights)
    alone, _ = block_problem(6, 10, ridge=0.1, first_order=1.0, seed=3, cuts=range(1, 10))
    bend = alone.curvature.diagonal() + 0.1
    expected = alone.w_bar - alone.gradient / bend
    assert torch.allclose(alone.unpruned, expected)
    best = CHITA().solve(alone, KeepK(size=10, k=4))
    worth = bend * expected**2  # what the removal of a weight costs, apart from all others
    assert set(best.mask.nonzero().squeeze(1).tolist()) == set(worth.topk(4).indices.tolist())


def test_the_mean_of_rows_is_the_gradient_however_rows_are_divided():
    a = torch.randn(5, 9).double()
    output_norms = torch.rand(5).double()
    for curvature in (
        GradientGram(DenseRows(a.T.contiguous())),
        BlockGram(DenseRows(a.T.contiguous()), [slice(0, 4), slice(4, 9)]),
    ):
        shift = curvature.of_rows(output_norms)
        assert torch.allclose(curvature.pullback(shift), a.T @ output_norms / 5)


@pytest.mark.parametrize("n", [3, 30])  # systems of rows, one by one; of weights, in batches
def test_blocks_that_do_not_change_are_not_solved_again(monkeypatch, n):
    problem, _ = block_problem(n, 40, ridge=0.1, first_order=1.0, seed=2, cuts=range(10, 40, 10))
    solved = []
    factor = block_gram._KeptFactors
    batched, single = factor._batched, factor._factor

    def spied(self, blocks):
        solved.extend(blocks.nonzero().squeeze(1).tolist())
        return batched(self, blocks)

    monkeypatch.setattr(factor, "_batched", spied)
    monkeypatch.setattr(factor, "_factor", lambda self, b: solved.append(b) or single(self, b))
    first = problem.minimise_on(torch.arange(0, 40, 2))
    assert solved == [0, 1, 2, 3]
    again = problem.minimise_on(torch.arange(0, 40, 2), near=first.factor)
    assert torch.equal(again.weights, first.weights)
    assert len(solved) == 4
    moved = torch.cat([torch.arange(0, 20, 2), torch.tensor([21]), torch.arange(22, 40, 2)])
    third = problem.minimise_on(moved, near=first.factor)
    assert solved[4:] == [2]  # a block knows nothing of what changes elsewhere
    assert torch.allclose(third.weights, problem.minimise_on(moved).weights, rtol=1e-10)
    gone = problem.minimise_on(torch.arange(0, 20, 2), near=third.factor)
    assert torch.allclose(gone.weights, problem.minimise_on(torch.arange(0, 20, 2)).weights)


@pytest.mark.parametrize("n", [3, 30])
def test_weights_that_are_zero_already_change_sides_without_a_change_of_the_residual(n):
    made, _ = block_problem(n, 40, ridge=0.1, first_order=1.0, seed=2, cuts=range(10, 40, 10))
    w_bar = made.w_bar.clone()
    w_bar[20:22] = 0
    problem = replace(made, w_bar=w_bar)
    first = problem.minimise_on(torch.arange(0, 40, 2))
    moved = torch.cat([torch.arange(0, 20, 2), torch.tensor([21]), torch.arange(22, 40, 2)])
    second = problem.minimise_on(moved, near=first.factor)
    assert second.weights[20] == 0 != second.weights[21]
    assert torch.allclose(second.weights, problem.minimise_on(moved).weights, rtol=1e-10)


@pytest.mark.parametrize("ridges", [(0.1, 0.2, 0.1), (0.1, 0.1, 0.1)])
@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 0, 1)])
def test_one_factor_serves_many_ridges_and_residuals(ridges, seeds):
    problem, dense = block_problem(9, 40, ridge=0.1, first_order=1.0, seed=2, cuts=range(8, 40, 8))
    support = torch.arange(0, 40, 3)
    factor = problem.curvature.factor(support)
    for ridge, seed in zip(ridges, seeds, strict=True):
        residual = torch.randn(5 * 9, generator=torch.Generator().manual_seed(seed)).double()
        solved_as_dense(problem, dense, factor, support, residual, ridge)
    residual = residual.clone()
    residual[18:27] += 1  # of one block
    solved_as_dense(problem, dense, factor, support, residual, ridges[-1])
    solved_as_dense(problem, dense, factor, support, 2 * residual, ridges[-1])


def test_a_batch_has_its_blocks_in_their_order():
    problem, _ = block_problem(30, 40, ridge=0.1, first_order=1.0, seed=2, cuts=range(10, 40, 10))
    support = torch.tensor([0, 1, 2, 3, 10, 11, 20, 21, 22, 30])  # 4, 2, 3 and 1 of them
    batches = problem.minimise_on(support).factor._batches[1]
    assert sorted(len(batch.blocks) for batch in batches) == [4]
    for batch in batches:
        assert batch.blocks.tolist() == sorted(batch.blocks.tolist())
        assert batch.support.flatten().tolist() == sorted(batch.support.flatten().tolist())


def test_systems_for_which_there_is_no_room_are_made_again(monkeypatch):
    monkeypatch.setattr(block_gram, "_GATHERED", 1)  # one block at a time
    problem, dense = block_problem(40, 60, ridge=0.1, first_order=1.0, seed=2, cuts=(30,))
    support, residual = torch.arange(60), torch.randn(80).double()
    factor = problem.curvature.factor(support)
    for ridge in (0.1, 0.2):
        solved_as_dense(problem, dense, factor, support, residual, ridge)


def solved_as_dense(problem, dense, factor, support, residual, ridge):
    """Assert that a factor, asked at a ridge, gives what dense algebra does; `dense` has 0.1."""
    step, left = factor.solve(residual, ridge)
    system = dense.hessian[support][:, support]
    system = system + (ridge - 0.1) * torch.eye(len(support)).double()
    pulled = problem.curvature.pullback(residual, support)
    assert torch.allclose(step, -torch.linalg.solve(system, pulled))
    assert torch.allclose(left, residual + problem.curvature.image(step, support))


def test_factors_take_no_more_room_than_the_rows():
    problem, _ = block_problem(4, 60, ridge=0.1, first_order=1.0, seed=2, cuts=range(6, 60, 6))
    factor = problem.minimise_on(torch.arange(60)).factor
    assert 0 < len(factor._factors) < 10
    assert len(factor._factors) * 6 * 16 <= 4 * 60
    few, _ = block_problem(40, 60, ridge=0.1, first_order=1.0, seed=2, cuts=range(6, 60, 6))
    factor = few.minimise_on(torch.arange(60)).factor
    assert sum(2 * batch.gram.numel() for batch in factor._batches[1]) <= 40 * 60


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 50))
def test_batches_hold_every_block_once_and_little(counts, n):
    kept = torch.tensor(counts)
    asked = torch.arange(len(counts))[::2]
    batches = list(similar(kept, asked, lambda count: count * n, 4000))
    assert torch.cat(batches).sort().values.tolist() == asked.tolist()
    for batch in batches:
        widest, least = int(kept[batch].max()), int(kept[batch].min())
        assert len(batch) == 1 or len(batch) * widest * n <= 4000
        assert widest <= least + least // 8 + 8
        assert kept[batch].tolist() == sorted(kept[batch].tolist())


def test_rows_that_are_factors_or_joined():
    n = 4
    one = FactoredRows(torch.randn(3, n).double(), torch.randn(4, n).double())
    two = DenseRows(torch.randn(7, n).double())
    rows = HStackRows([one, two])
    plain = DenseRows(rows.gather(torch.arange(19)))
    blocks = [slice(0, 8), slice(8, 12), slice(12, 15), slice(15, 19)]
    w_bar = torch.randn(19).double()
    results = []
    for kind in (rows, plain):
        curvature = BlockGram(kind, blocks)
        problem = LocalQuadratic(
            w_bar=w_bar, curvature=curvature, ridge=0.1, shift=curvature.constant(1.0)
        )
        results.append(BSO().solve(problem, KeepK(size=19, k=8)))
    assert torch.equal(results[0].mask, results[1].mask)
    assert torch.allclose(results[0].weights, results[1].weights)
