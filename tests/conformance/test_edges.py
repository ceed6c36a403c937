"""Edges of solvers: the scale of Q, what they report, what they draw, and how they are named."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from chita.constraints import KeepK
from chita.errors import InputError
from chita.options import option
from chita.problem import (
    DenseRows,
    GradientGram,
    InputGram,
    LocalQuadratic,
    NoCurvature,
    Prices,
)
from chita.solvers import ALPS, BSO, CD, CHITA, IHT, SOLVERS, Status
from chita.solvers.baselines import ActiveSet, LocalSearch, Random
from chita.solvers.cbs import Removal, _energy
from chita.solvers.chita import _Exchange, _halvings
from chita.solvers.iht import lipschitz
from chita.solvers.named import make_solver, solver_class, solver_name
from chita.solvers.solver import Selection
from chita.solvers.swaps import _priced, swap_round
from tests.conformance.table import QUICK
from tests.problems import layer_problem, problem_for, random_problem

FEW = KeepK(size=12, k=5)


def scaled(problem, factor):
    """The problem of Q times factor², so of the same minima: rows times factor, λ times factor²."""
    curvature = problem.curvature
    if isinstance(curvature, InputGram):
        gram = curvature.gram * factor**2
        larger = InputGram(gram, curvature.outputs, dtype=problem.w_bar.dtype)
    else:
        columns = torch.eye(curvature.size, dtype=torch.float64)
        rows = torch.stack([curvature.image(column) for column in columns])  # Aᵀ
        larger = GradientGram(DenseRows(factor * rows))
    return LocalQuadratic(
        w_bar=problem.w_bar,
        curvature=larger,
        ridge=problem.ridge * factor**2,
        shift=problem.shift * factor,
    )


@pytest.mark.parametrize("name", SOLVERS)
def test_no_solver_sees_the_scale_of_q(name, subtests):
    """By a power of two, so that every rounding is the same."""
    solver = QUICK[name]
    for seed in range(2):
        problem, _ = problem_for(solver, 9, 12, ridge=0.05, first_order=0.5, seed=seed)
        as_is = solver.solve(scaled(problem, 1.0), FEW)
        for power in (-25, 25):
            with subtests.test(seed=seed, power=power):
                found = solver.solve(scaled(problem, 2.0**power), FEW)
                assert torch.equal(found.mask, as_is.mask)
                assert torch.allclose(found.weights, as_is.weights, rtol=1e-9, atol=1e-12)
                assert found.objective == pytest.approx(4.0**power * as_is.objective, rel=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_trace_falls_to_the_objective(name):
    solver = QUICK[name]
    for seed in range(3):
        problem, _ = problem_for(solver, 9, 12, ridge=0.05, first_order=0.5, seed=seed)
        found = solver.solve(problem, FEW)
        trace = found.stats.trace
        assert isinstance(found.status, Status)
        assert all(later < earlier for earlier, later in pairwise(trace))
        if trace:
            assert trace[-1] == pytest.approx(found.objective, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_generator_of_the_program_plays_no_part(name):
    solver = QUICK[name]
    problem, _ = problem_for(solver, 9, 12, ridge=0.05, first_order=0.5, seed=1)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = solver.solve(problem, FEW)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(solver.solve(problem, FEW).weights, first.weights)


def test_the_first_step_of_thresholding_is_above_the_largest_eigenvalue():
    for factor in (1e-8, 1.0, 1e8):
        problem, dense = random_problem(9, 12, ridge=0.05, first_order=0.0, seed=4)
        largest = factor**2 * float(torch.linalg.eigvalsh(dense.hessian)[-1])
        assert largest < lipschitz(scaled(problem, factor)) < 1.1 * largest


def test_where_nothing_is_to_gain_nothing_is_done():
    problem, _ = random_problem(9, 12, ridge=0.05, first_order=0.0, seed=1)
    found = IHT().solve(problem, KeepK(size=12, k=12))
    assert found.stats.trace == (0.0,)
    assert found.status is Status.CONVERGED


def test_a_search_that_was_cut_short_says_so():
    problem, _ = random_problem(9, 12, ridge=0.05, first_order=0.5, seed=1)
    layer, _ = layer_problem(9, (1, 3, 4), ridge=0.05, seed=1)
    short = LocalSearch(max_rounds=0).solve(problem, FEW)
    assert (short.status, len(short.stats.trace)) == (Status.ITERATION_LIMIT, 1)
    assert LocalSearch().solve(problem, FEW).status is Status.CONVERGED
    assert IHT(max_iterations=1).solve(problem, FEW).status is Status.ITERATION_LIMIT
    assert IHT(max_iterations=1000).solve(problem, FEW).status is Status.CONVERGED
    assert ALPS(max_iterations=1).solve(layer, FEW).status is Status.ITERATION_LIMIT
    assert ALPS().solve(layer, FEW).status is Status.CONVERGED
    none = CHITA(max_rounds=0, max_swap_rounds=0).solve(problem, FEW)
    assert none.status is Status.ITERATION_LIMIT
    assert none.objective == pytest.approx(BSO().solve(problem, FEW).objective)


def test_rounds_of_exchange_are_as_many_as_allowed():
    for seed in range(2):
        problem, _ = random_problem(40, 80, ridge=0.05, first_order=1.0, seed=seed)
        found = []
        for rounds in (0, 1, 2, 3, 100):
            solver = CHITA(max_rounds=rounds, max_swap_rounds=0, max_supports=1, tolerance=0)
            found.append(len(solver.solve(problem, KeepK(size=80, k=20)).stats.trace) - 1)
        assert found[:4] == [0, 1, 2, 3]  # each of the first rounds gains
        assert found[4] > 3


def test_random_scores_are_even_between_zero_and_one():
    none = NoCurvature(10_000)
    w_bar = torch.ones(10_000, dtype=torch.float64)
    problem = LocalQuadratic(w_bar=w_bar, curvature=none, ridge=0.1, shift=none.constant(0.0))
    scores = Random(seed=3).values(problem)
    assert float(scores.min()) > 0
    assert float(scores.max()) <= 1
    assert float(scores.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(scores.var()) == pytest.approx(1 / 12, abs=0.01)


def test_a_solver_by_name_takes_the_seed_of_the_run_and_solvers_inside():
    assert make_solver("random") == Random(seed=0)
    assert make_solver("random", seed=4) == Random(seed=4)
    assert make_solver("random", {"seed": "5"}, seed=4) == Random(seed=5)
    within = make_solver("local-search", {"solver": "random", "max_rounds": "7"}, seed=4)
    assert within == LocalSearch(solver=Random(seed=4), max_rounds=7)


def test_a_refusal_names_the_option_and_what_is_needed():
    with pytest.raises(InputError, match=r"^Options of iht: tolerance is -1[^`]*$"):
        make_solver("iht", {"tolerance": -1})
    problem, _ = random_problem(9, 12, ridge=0.05, first_order=0.5, seed=1)
    with pytest.raises(InputError, match=r"ALPS does not accept GradientGram; .* InputGram"):
        ALPS().solve(problem, FEW)
    flat = replace(problem, ridge=0.0)
    with pytest.raises(InputError, match="ridge"):
        LocalSearch().solve(flat, FEW)


def diagonal_problem(seed):
    """A problem whose best support is known: the largest (H_jj + λ) w̄_j²."""
    generator = torch.Generator().manual_seed(seed)
    curvatures = torch.logspace(-3, 1, 12, dtype=torch.float64)
    rows = torch.diag((12 * curvatures[torch.randperm(12, generator=generator)]).sqrt())
    w_bar = torch.randn(12, generator=generator, dtype=torch.float64)
    curvature = GradientGram(DenseRows(rows))
    shift = curvature.constant(0.0)
    problem = LocalQuadratic(w_bar=w_bar, curvature=curvature, ridge=0.01, shift=shift)
    return problem, FEW.select(w_bar * (curvature.diagonal() + 0.01).sqrt())


@pytest.mark.parametrize("seed", range(5))
def test_in_the_metric_of_its_diagonal_a_diagonal_problem_is_solved_in_one_step(seed):
    """η/M is then the Newton step, and √M |w| orders weights by what their removal costs."""
    problem, optimal = diagonal_problem(seed)
    mean = float((problem.curvature.diagonal() + problem.ridge).mean())
    mask = optimal.clone()
    mask[optimal.nonzero()[:2]], mask[(~optimal).nonzero()[:2]] = False, True
    exchange = _Exchange(problem, FEW, CHITA(longest_step=problem.ridge / mean))
    exchange.turn()
    found = exchange.round(mask, problem.minimise_on(mask.nonzero().squeeze(1)))
    assert found is not None
    assert torch.equal(found[0], optimal)
    assert torch.allclose(found[1].weights, torch.where(optimal, problem.w_bar, 0))


def test_a_step_is_halved_once_for_each_factor_three_of_excess():
    cases = [(0.0, 1), (2.0, 1), (9.1, 2), (27.1, 3), (80.0, 3), (81.1, 4)]
    assert [_halvings(excess * 5.0, 5.0) for excess, _ in cases] == [n for _, n in cases]
    assert _halvings(1.0, 0.0) > 40  # beside nothing, any excess is far too large


def test_among_steps_of_equal_q_the_longest_is_taken():
    """The gradient is of a weight that no step brings in, so all steps give the same point."""
    curvature = GradientGram(DenseRows(torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double()))
    w_bar = torch.tensor([5.0, 0.0], dtype=torch.float64)
    shift = curvature.constant(1.0)
    problem = LocalQuadratic(w_bar=w_bar, curvature=curvature, ridge=0.5, shift=shift)
    found = BSO(tries=4).solve(problem, KeepK(size=2, k=1))
    assert found.weights.tolist() == [5, 0]


def test_swaps_that_a_solve_does_not_confirm_are_halved_until_one_is(monkeypatch):
    problem, optimal = diagonal_problem(1)
    inside, outside = optimal.nonzero().squeeze(1), (~optimal).nonzero().squeeze(1)
    mask = optimal.clone()
    mask[inside[0]], mask[outside[0]] = False, True
    best = problem.minimise_on(mask.nonzero().squeeze(1))
    prices = Prices.at(problem, mask, best, problem.gradient_at(best.weights), torch.arange(12))
    good = (int(outside[0]), int(inside[0]))
    harmful = [(int(inside[i]), int(outside[i])) for i in range(1, 4)]
    monkeypatch.setattr("chita.solvers.swaps._priced", lambda *_: prices)
    for wrong in (harmful, harmful[:1], []):
        monkeypatch.setattr("chita.solvers.swaps._sequence", lambda *_, w=wrong: [good, *w])
        found = swap_round(problem, FEW, mask, best, 12, 0.0)
        assert found is not None
        assert torch.equal(found[0], optimal)
    monkeypatch.setattr("chita.solvers.swaps._sequence", lambda *_: harmful)
    assert swap_round(problem, FEW, mask, best, 12, 0.0) is None


def test_a_cycle_that_rounding_made_worse_is_taken_back(monkeypatch):
    problem, _ = random_problem(9, 12, ridge=0.05, first_order=0.5, seed=1)
    values = iter([1.0, 2.0])
    monkeypatch.setattr(LocalQuadratic, "value_at", lambda *_: next(values))
    mask = FEW.select(problem.w_bar)
    found = CD()._search(problem, FEW, problem.w_bar)
    assert torch.equal(found.weights, torch.where(mask, problem.w_bar, 0))
    assert (found.status, found.trace) == (Status.CONVERGED, (1.0,))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"^Unknown solver 'chitta'\. Did you mean chita"):
        solver_class("chitta")


@pytest.mark.parametrize("seed", range(4))
def test_an_active_set_grows_until_no_step_leads_out(seed, monkeypatch):
    few = KeepK(size=60, k=5)
    problem, dense = random_problem(20, 60, ridge=0.1, first_order=1.0, seed=seed)
    seen, parts, original = [], [], LocalQuadratic.restrict

    def watched(self, index):
        seen.append(torch.zeros(60, dtype=torch.bool).index_fill_(0, index, True))
        parts.append(original(self, index))
        return parts[-1]

    monkeypatch.setattr(LocalQuadratic, "restrict", watched)
    found = ActiveSet(solver=BSO(), share=1).solve(problem, few)
    active, first_step = seen[-1], 1 / lipschitz(parts[0])
    assert bool(active[found.mask].all())
    assert bool(seen[0][few.select(problem.w_bar)].all())  # it holds the start
    assert len(seen) > 1  # it grew
    gradient = dense.gradient_at(found.weights)
    for doubling in range(10):
        moved = found.weights - first_step * 2**doubling * gradient
        assert not bool((few.select(moved) & ~active).any())


def test_without_rounds_of_growth_the_first_active_set_is_solved():
    problem, dense = random_problem(20, 60, ridge=0.1, first_order=1.0, seed=1)
    found = ActiveSet(solver=BSO(), max_rounds=0).solve(problem, KeepK(size=60, k=5))
    assert len(found.stats.trace) == 2
    support = found.mask.nonzero().squeeze(1).tolist()
    assert torch.allclose(found.weights, dense.minimise_on(support))


class Needy(Selection):
    """Keeps the weights of largest |w̄|^power."""

    power: float = option(help="The power.")
    curvatures = ()

    def values(self, problem):
        return problem.w_bar.abs() ** self.power


def test_a_solver_of_ones_own_has_its_place_as_a_name_and_tells_what_it_needs():
    name = f"{__name__}:Needy"
    assert solver_name(Needy) == solver_name(Needy(power=2.0)) == name
    assert make_solver(name, {"power": "2"}) == Needy(power=2.0)
    with pytest.raises(InputError, match=r"power is missing; give power=\.\.\.$"):
        make_solver(name)


def test_the_energy_of_a_mask_is_what_its_removals_cost_together():
    for seed in range(3):
        problem, dense = random_problem(9, 12, ridge=0.05, first_order=0.0, seed=seed)
        mask = FEW.select(problem.w_bar)
        removed = torch.where(mask, 0, problem.w_bar)
        hessian = dense.hessian - 0.05 * torch.eye(12)
        expected = 0.5 * float(removed @ hessian @ removed)
        assert _energy(problem, mask) == pytest.approx(expected)
        assert Removal(problem, mask).cost == pytest.approx(expected)


@pytest.mark.parametrize(("first_order", "seed"), [(0.5, 0), (0.5, 1), (0.5, 17), (2.0, 55)])
def test_one_iteration_of_thresholding_is_the_better_of_two_steps(first_order, seed):
    """η* along the gradient on the support where that keeps it, else the better of η* and 1/L.

    1/L is better in the last two.
    """
    problem, dense = random_problem(9, 12, ridge=0.05, first_order=first_order, seed=seed)
    bound = float(torch.linalg.eigvalsh(dense.hessian)[-1])
    mask = FEW.select(problem.w_bar)
    weights = torch.where(mask, problem.w_bar, 0)
    gradient = dense.gradient_at(weights)
    inside = torch.where(mask, gradient, 0)
    exact = float(inside @ inside / (inside @ dense.hessian @ inside))
    trials = [weights - exact * inside]
    moved = FEW.select(weights - exact * gradient)
    if not torch.equal(moved, mask):
        step = weights - gradient / bound
        trials.append(torch.where(FEW.select(step), step, 0))
    expected = min(trials, key=dense.value)
    found = IHT(max_iterations=1, max_doublings=0, lipschitz=bound).solve(problem, FEW)
    assert torch.allclose(found.weights, expected)


@pytest.mark.parametrize("seed", [1, 5, 6, 7])
def test_iterations_of_alps_are_those_of_its_formula(seed):
    """W, D and V by themselves, with a dense inverse in each iteration."""
    problem, dense = layer_problem(9, (1, 1, 12), ridge=0.05, seed=seed)
    scale = dense.hessian.diagonal().rsqrt()
    hessian = scale.unsqueeze(1) * dense.hessian * scale
    d = problem.w_bar / scale
    b, v, rho = hessian @ d, torch.zeros(12, dtype=torch.float64), 0.1
    before = FEW.select(d)
    for iteration in range(1, 9):
        w = torch.linalg.solve(hessian + rho * torch.eye(12), b - v + rho * d)
        mask = FEW.select(w + v / rho)
        d = torch.where(mask, w + v / rho, 0)
        v = v + rho * (w - d)
        if iteration % 3 == 0:
            moved = int((mask != before).sum())
            assert moved  # where nothing moved, that would be the end
            before, rho = mask, rho * (1.3 if moved >= 0.5 else 1.2)
    found = ALPS(max_iterations=8, cg_iterations=0).solve(problem, FEW)
    assert torch.allclose(found.weights, d * scale)


def test_the_solver_inside_an_active_set_goes_on_from_the_point_reached(monkeypatch):
    problem, _ = random_problem(20, 60, ridge=0.1, first_order=1.0, seed=1)
    starts, original = [], BSO.solve

    def watched(self, problem, constraint, start=None):
        starts.append(start)
        return original(self, problem, constraint, start)

    monkeypatch.setattr(BSO, "solve", watched)
    ActiveSet(solver=BSO(), share=1).solve(problem, KeepK(size=60, k=5))
    assert len(starts) > 1
    assert all(start is not None and int(start.count_nonzero()) == 5 for start in starts)


def test_an_active_set_of_all_weights_ends_as_the_solver_inside_does():
    problem, _ = random_problem(9, 12, ridge=0.05, first_order=0.5, seed=1)
    for inner, status in (
        (IHT(max_iterations=1), Status.ITERATION_LIMIT),
        (BSO(), Status.CONVERGED),
    ):
        assert ActiveSet(solver=inner).solve(problem, FEW).status is status


def test_candidates_are_the_cheapest_to_remove_and_the_most_promising():
    problem, _ = random_problem(20, 30, ridge=0.1, first_order=1.0, seed=2)
    mask = KeepK(size=30, k=10).select(problem.w_bar)
    best = problem.minimise_on(mask.nonzero().squeeze(1))
    bend = problem.curvature.diagonal() + problem.ridge
    cost = torch.where(mask, bend * best.weights**2, torch.inf)
    promise = torch.where(mask, 0, problem.gradient_at(best.weights) ** 2 / bend)
    for count in (1, 4):
        expected = {*cost.argsort()[:count].tolist(), *(-promise).argsort()[:count].tolist()}
        assert {*_priced(problem, mask, best, count).index.tolist()} == expected
