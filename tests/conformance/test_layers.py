"""The solvers that prune layer by layer, against what their papers define."""

from itertools import product

import pytest
import torch

from chita.constraints import Exactly, KeepK, NofM, PerOutput, Sparsity
from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.solvers import ALPS, OBC, SparseGPT, Wanda
from chita.solvers.alps import ScaledLayer
from chita.solvers.obc import eliminated
from tests.problems import layer_problem

SIZES = [(1, 4, 12), (2, 3, 8)]


def layout(shape):
    groups, outputs, d = shape
    return Layout(names=("w",), shapes=((groups * outputs, d),), axes=(Axes(groups=groups),))


def greedy(problem, dense, row, kept, room=lambda removed: True):
    """Remove of one output the weight that costs least, again and again, each time anew."""
    d = problem.curvature.inputs
    mine = torch.arange(row * d, (row + 1) * d)
    h = dense.hessian[mine][:, mine]
    w = dense.w_bar[mine].clone()
    alive, removed = list(range(d)), []
    while len(alive) > kept:
        inverse = torch.linalg.inv(h[alive][:, alive])
        costs = {q: float(w[q] ** 2 / inverse[i, i]) / 2 for i, q in enumerate(alive)}
        able = {q: cost for q, cost in costs.items() if room([q for q, _ in removed] + [q])}
        q = min(able, key=able.get)
        i = alive.index(q)
        w[alive] -= w[q] / inverse[i, i] * inverse[:, i]
        w[q] = 0
        alive.remove(q)
        removed.append((q, costs[q]))
    return removed, w


@pytest.mark.parametrize(
    "shape", [*SIZES, (1, 2, 150)]
)  # over 128 removals: the inverse is downdated
def test_obc_removes_as_greedy_elimination_does(shape):
    problem, dense = layer_problem(2 * shape[2], shape, ridge=0.05, seed=3)
    groups, outputs, d = shape
    damped = problem.curvature.exact + 0.05 * torch.eye(d).double()
    weights = problem.w_bar.view(groups, outputs, d)
    for group in range(groups):
        found = eliminated(weights[group], torch.linalg.inv(damped[group]))
        for row in range(outputs):
            removed, _ = greedy(problem, dense, group * outputs + row, 1)
            order = [q for q, _ in removed]
            assert found[row].argsort().tolist()[:-1] == order
            costs = torch.tensor([cost for _, cost in removed]).double()
            expected = costs.cummax(0).values
            assert torch.allclose(found[row][order], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("shape", SIZES)
def test_obc_takes_removals_of_all_outputs_by_their_cost(shape):
    problem, dense = layer_problem(40, shape, ridge=0.05, seed=4)
    p, d = problem.curvature.size, shape[2]
    traces = {}
    for row in range(p // d):
        removed, _ = greedy(problem, dense, row, 0)
        highest = 0.0
        for q, cost in removed:
            highest = max(highest, cost)
            traces[row * d + q] = highest
    cheapest = sorted(traces, key=traces.get)
    for k in (p // 5, p // 2):
        found = OBC().solve(problem, KeepK(size=p, k=k))
        assert set((~found.mask).nonzero().flatten().tolist()) == set(cheapest[: p - k])
        exact = dense.minimise_on(found.mask.nonzero().flatten().tolist())
        assert torch.allclose(found.weights, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5, 15))
@pytest.mark.parametrize("budget", [NofM(n=2, m=4), PerOutput(sparsity=0.5)])
def test_obc_removes_within_groups_that_have_room(budget, seed):
    shape = (1, 4, 12)
    problem, dense = layer_problem(40, shape, ridge=0.05, seed=seed)
    found = OBC().solve(problem, budget.bind(layout(shape)))

    def room(removed):
        own = [q // 4 == removed[-1] // 4 for q in removed]
        return sum(own) <= 2 if isinstance(budget, NofM) else len(removed) <= 6

    for row in range(4):
        removed, w = greedy(problem, dense, row, 6, room)
        mine = slice(row * 12, (row + 1) * 12)
        gone = (~found.mask[mine]).nonzero().flatten().tolist()
        assert sorted(q for q, _ in removed) == gone
        assert torch.allclose(found.weights[mine], w, rtol=1e-6, atol=1e-9)


def sequential(problem, dense, row, mask):
    """SparseGPT's weights of one output: each removal made good by the weights after it."""
    d = problem.curvature.inputs
    mine = torch.arange(row * d, (row + 1) * d)
    h, w = dense.hessian[mine][:, mine], dense.w_bar[mine].clone()
    for j in range(d):
        inverse = torch.linalg.inv(h[j:, j:])
        if not mask[row * d + j]:
            w[j:] -= w[j] / inverse[0, 0] * inverse[:, 0]
            w[j] = 0
    return w


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("block_size", [1, 3, 128])
def test_sparsegpt_makes_removals_good_by_later_weights(shape, block_size):
    problem, dense = layer_problem(40, shape, ridge=0.05, seed=6)
    p, d = problem.curvature.size, shape[2]
    mask = torch.rand(p, generator=torch.Generator().manual_seed(1)) < 0.5
    found = SparseGPT(block_size=block_size).solve(problem, Exactly(mask=mask))
    for row in range(p // d):
        expected = sequential(problem, dense, row, mask)
        mine = slice(row * d, (row + 1) * d)
        assert torch.allclose(found.weights[mine], expected, rtol=1e-7, atol=1e-10)


def test_sparsegpt_chooses_by_what_weights_are_when_they_are_reached():
    """In the first block by w²/[H⁻¹]ⱼⱼ of the inputs from j on; each block has its share."""
    shape = (1, 5, 12)
    problem, dense = layer_problem(40, shape, ridge=0.05, seed=7)
    found = SparseGPT(block_size=4).solve(problem, KeepK(size=60, k=30))
    assert [int(found.mask.view(5, 12)[:, a : a + 4].sum()) for a in (0, 4, 8)] == [10, 10, 10]
    h = dense.hessian[:12][:, :12]
    pivots = torch.stack([torch.linalg.inv(h[j:, j:])[0, 0] for j in range(4)])
    scores = problem.w_bar.view(5, 12)[:, :4].square() / pivots
    best = scores.flatten().argsort(descending=True)[:10].sort().values
    assert torch.equal(found.mask.view(5, 12)[:, :4].flatten().nonzero().flatten(), best)
    pattern = NofM(n=2, m=4).bind(layout(shape))
    grouped = SparseGPT().solve(problem, pattern)
    alone = SparseGPT(block_size=4).solve(problem, pattern)
    assert torch.equal(grouped.mask, alone.mask)
    assert torch.allclose(grouped.weights, alone.weights)


def test_wanda_compares_weights_with_what_they_see():
    problem, _ = layer_problem(40, (1, 4, 12), ridge=0.05, seed=8)
    norms = problem.curvature.exact[0].diagonal().sqrt()
    scores = (problem.w_bar.view(4, 12).abs() * norms).flatten()
    found = Wanda().solve(problem, KeepK(size=48, k=20))
    assert set(found.mask.nonzero().flatten().tolist()) == set(scores.topk(20).indices.tolist())
    assert torch.equal(found.weights[found.mask], problem.w_bar[found.mask])
    rows = Wanda().solve(problem, PerOutput(sparsity=0.5).bind(layout((1, 4, 12))))
    best = scores.view(4, 12).topk(6, 1).indices.sort(1).values
    assert torch.equal(rows.mask.view(4, 12).nonzero()[:, 1].view(4, 6), best)


@pytest.mark.parametrize("shape", SIZES)
def test_the_scaled_layer_is_the_problem_in_other_units(shape):
    problem, dense = layer_problem(40, shape, ridge=0.05, seed=9)
    layer = ScaledLayer(problem)
    p = problem.curvature.size
    scaled = dense.hessian * layer.scale * layer.scale.unsqueeze(1)
    assert torch.allclose(scaled.diagonal(), torch.ones(p).double())
    pull, rho = torch.randn(p).double(), 0.7
    right = scaled @ (dense.w_bar / layer.scale) + rho * pull
    expected = torch.linalg.solve(scaled + rho * torch.eye(p).double(), right)
    assert torch.allclose(layer.fitted(pull, rho), expected)
    mask = torch.rand(p, generator=torch.Generator().manual_seed(2)) < 0.5
    start = torch.where(mask, layer.origin, 0)
    refined = layer.refined(start, mask, 100) * layer.scale
    exact = dense.value(dense.minimise_on(mask.nonzero().flatten().tolist()))
    assert exact - 1e-9 <= dense.value(refined) <= exact * (1 + 1e-6)


def test_as_many_steps_as_an_output_keeps_weights_reach_its_minimum():
    """Conjugate directions: steepest descent takes thousands of steps here."""
    problem, dense = layer_problem(40, (1, 4, 12), ridge=1e-4, seed=9)
    layer = ScaledLayer(problem)
    mask = torch.rand(48, generator=torch.Generator().manual_seed(2)) < 0.5
    most = int(mask.view(4, 12).sum(1).max())
    start = torch.where(mask, layer.origin, 0)
    refined = layer.refined(start, mask, most) * layer.scale
    least = dense.value(dense.minimise_on(mask.nonzero().flatten().tolist()))
    before = dense.value(start * layer.scale)
    assert dense.value(refined) - least <= 1e-7 * (before - least)


LAYERS = list(product([20, 200], [0.5, 0.7, 0.9], range(4)))


def test_alps_is_near_the_minimum_on_its_mask(subtests):
    """Every third case: each n and sparsity, and all seeds."""
    for case in LAYERS[::3]:
        with subtests.test(case=case):
            check_alps(*case)


@pytest.mark.slow
def test_alps_is_so_in_every_case(subtests):
    for case in LAYERS:
        with subtests.test(case=case):
            check_alps(*case)


def check_alps(n, sparsity, seed):
    shape = (1, 16, 40)
    problem, _ = layer_problem(n, shape, ridge=0.05, seed=seed)
    constraint = Sparsity(sparsity=sparsity).bind(layout(shape))
    found = ALPS().solve(problem, constraint)
    least = problem.minimise_on(found.mask.nonzero().flatten()).objective
    assert least - 1e-9 <= found.objective <= 1.05 * least
    assert not torch.equal(found.weights[found.mask], problem.w_bar[found.mask])


def test_alps_ends_where_nothing_can_move():
    problem, _ = layer_problem(40, (1, 4, 12), ridge=0.05, seed=1)
    whole = ALPS().solve(problem, KeepK(size=48, k=48))
    assert torch.allclose(whole.weights, problem.w_bar, rtol=1e-6)
    mask = torch.rand(48, generator=torch.Generator().manual_seed(3)) < 0.4
    fixed = ALPS(cg_iterations=50).solve(problem, Exactly(mask=mask))
    least = problem.minimise_on(mask.nonzero().flatten())
    assert fixed.objective == pytest.approx(least.objective, rel=1e-6)


def test_solvers_of_whole_layers_refuse_parts():
    problem, _ = layer_problem(40, (1, 4, 12), ridge=0.05, seed=1)
    part = problem.restrict(torch.arange(0, 48, 2))
    for solver in (ALPS(), OBC(), SparseGPT()):
        with pytest.raises(InputError, match="of some"):
            solver.solve(part, KeepK(size=24, k=5))
    assert Wanda().solve(part, KeepK(size=24, k=5)).mask.sum() == 5


@pytest.mark.parametrize(
    "make", [lambda: ALPS(rho=0.0), lambda: ALPS(max_iterations=0), lambda: SparseGPT(block_size=0)]
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(InputError):
        make()
