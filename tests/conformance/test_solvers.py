"""Options of all solvers, and what theorems say of each."""

import math
import re
from dataclasses import FrozenInstanceError, fields
from functools import cache
from itertools import pairwise

import pytest
import torch

from chita.constraints import KeepK
from chita.errors import InputError, NumericalError
from chita.options import described
from chita.problem import DenseRows, GradientGram, LocalQuadratic
from chita.solvers import (
    BSO,
    CHITA,
    IHT,
    SOLVERS,
    Effort,
    Found,
    Magnitude,
    Solver,
    Status,
)
from chita.solvers.baselines import ActiveSet, LocalSearch
from chita.solvers.bso import _stepped
from chita.solvers.iht import lipschitz
from tests.problems import random_problem

BIG = {"n": 40, "p": 300, "ridge": 0.01, "first_order": 1.0, "seed": 7}
every_solver = pytest.mark.parametrize("name", SOLVERS)


@every_solver
def test_a_solver_is_its_options_and_frozen(name):
    solver = SOLVERS[name]()
    assert solver == SOLVERS[name]()
    for field in fields(solver):
        with pytest.raises(FrozenInstanceError):
            setattr(solver, field.name, 1)


@cache
def solve(solver: Solver, first_order, ridge, seed):
    """One solution, which several tests look at."""
    problem, _ = random_problem(40, 300, ridge=ridge, first_order=first_order, seed=seed)
    return solver.solve(problem, KeepK(size=300, k=60))


LARGER = [(s, lam, seed) for s in (0.0, 1.0) for lam in (1e-3, 0.1) for seed in range(2)]
OTHERS = [(*case[:2], 2) for case in LARGER[::2]]


@pytest.mark.parametrize(
    ("first_order", "ridge", "seed"),
    [*LARGER, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
def test_descent_and_order(first_order, ridge, seed):
    """Theorems: each step of iht and chita lowers Q; the magnitude support is a candidate."""
    found = {
        solver: solve(solver, first_order, ridge, seed)
        for solver in (Magnitude(), BSO(), IHT(), CHITA())
    }
    for solver in (IHT(), CHITA()):
        trace = found[solver].stats.trace
        assert all(later <= earlier for earlier, later in pairwise(trace))
        assert trace[-1] == pytest.approx(found[solver].objective, rel=1e-8)
    assert found[IHT()].objective <= found[Magnitude()].objective
    assert found[BSO()].objective <= found[Magnitude()].objective
    assert found[CHITA()].objective <= found[BSO()].objective


def test_magnitude_keeps_the_largest_weights_as_they_are():
    problem, _ = random_problem(**BIG)
    found = Magnitude().solve(problem, KeepK(size=300, k=60))
    order = problem.w_bar.abs().argsort(descending=True)
    assert set(found.mask.nonzero().squeeze(1).tolist()) == set(order[:60].tolist())
    assert torch.equal(found.weights[found.mask], problem.w_bar[found.mask])


def test_exchanges_and_swaps_each_lower_q():
    """Left alone, each gains on the back-solve somewhere; together they never lose by much."""
    gains = {"exchanges": [], "swaps": []}
    for case in [*LARGER, *OTHERS]:
        start = solve(BSO(), *case).objective
        gains["exchanges"].append(start - solve(CHITA(max_swap_rounds=0), *case).objective)
        gains["swaps"].append(start - solve(CHITA(max_rounds=0), *case).objective)
    for found in gains.values():
        assert min(found) >= -1e-9
        assert max(found) > 0


@pytest.mark.parametrize("first_order", [0.0, 1.0])
def test_no_exchange_in_either_metric_lowers_q_at_the_end(first_order):
    """M = 1 and M = diag(H) + λ, each step and its halves, by dense algebra."""
    ridge, keep = 0.05, KeepK(size=40, k=10)
    for seed in range(6):
        problem, dense = random_problem(20, 40, ridge=ridge, first_order=first_order, seed=seed)
        solver = CHITA(max_swap_rounds=0, tolerance=0.0)
        found = solver.solve(problem, keep)
        assert found.status is Status.CONVERGED
        gradient = torch.where(found.mask, 0, dense.gradient_at(found.weights))
        diagonal = dense.hessian.diagonal()
        for metric in (torch.ones(40), diagonal / diagonal.mean()):
            for halving in range(20):
                step = solver.longest_step / ridge * 0.5**halving
                moved = metric * found.weights - step * gradient
                support = keep.select(moved / metric.sqrt()).nonzero().squeeze(1).tolist()
                least = dense.value(dense.minimise_on(support))
                assert least >= found.objective - 1e-9, (seed, halving)


def test_the_optimum_of_a_diagonal_problem_is_found():
    """Where H is diagonal the best k weights are those of largest (h + λ) w̄².

    Halved steps meet the right one to a factor of two at worst, so exchanges alone end where none
    outside costs four times as much as one inside; swaps then end at the optimum.
    """
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        scales = torch.logspace(-2, 1, 80).double()[torch.randperm(80, generator=generator)]
        w_bar = torch.randn(80, generator=generator).double()
        curvature = GradientGram(DenseRows(scales.diag()))
        problem = LocalQuadratic(
            w_bar=w_bar, curvature=curvature, ridge=1e-3, shift=curvature.constant(0.0)
        )
        costs = (curvature.diagonal() + 1e-3) * w_bar.square()
        exchanges = CHITA(max_swap_rounds=0, tolerance=0.0)
        near = exchanges.solve(problem, KeepK(size=80, k=20)).mask
        assert float(costs[~near].max()) <= 4 * float(costs[near].min())
        found = CHITA().solve(problem, KeepK(size=80, k=20))
        best = costs.argsort(descending=True)[:20].tolist()
        assert set(found.mask.nonzero().flatten().tolist()) == set(best)


@pytest.mark.parametrize("first_order", [0.0, 1.0])
def test_chita_descends_without_a_ridge_too(first_order):
    """Nothing can be priced there, so every exchange is solved and taken only if Q falls."""
    improved = 0
    for seed in range(6):
        problem, _ = random_problem(200, 100, ridge=0.0, first_order=first_order, seed=seed)
        found = CHITA().solve(problem, KeepK(size=100, k=30))
        trace = found.stats.trace
        assert all(later < earlier for earlier, later in pairwise(trace))
        assert trace[-1] == pytest.approx(found.objective, rel=1e-8)
        improved += len(trace) > 1
    assert improved


def test_bso_is_the_better_of_the_supports_of_largest_weights_and_largest_costs():
    better = 0
    for seed in range(12):
        problem, dense = random_problem(6, 12, ridge=0.05, first_order=0.0, seed=seed)
        alone = dense.hessian.diagonal() * dense.w_bar.square()  # H with the ridge
        minima = [
            dense.value(dense.minimise_on(scores.argsort(descending=True)[:4].sort().values))
            for scores in (alone, dense.w_bar.abs())
        ]
        constraint = KeepK(size=12, k=4)
        found = BSO().solve(problem, constraint)
        assert found.objective == pytest.approx(min(minima), rel=1e-9)
        first = BSO(max_supports=1).solve(problem, constraint)
        assert first.objective == pytest.approx(minima[0], rel=1e-9)
        better += minima[0] < minima[1]
    assert 0 < better < 12


def test_brief_solves_are_of_the_same_solver_and_are_its_start():
    assert BSO().brief == BSO(max_supports=2)
    assert BSO(max_supports=1).brief == BSO(max_supports=1)
    assert CHITA().brief.max_swap_rounds == 0
    assert CHITA(max_rounds=1).brief.max_rounds == 1
    assert IHT().brief == IHT(max_iterations=50)
    assert IHT(max_iterations=3).brief == IHT(max_iterations=3)
    for seed in range(5):
        problem, _ = random_problem(20, 60, ridge=0.01, first_order=1.0, seed=seed)
        constraint = KeepK(size=60, k=20)
        brief = CHITA().brief.solve(problem, constraint).objective
        assert CHITA().solve(problem, constraint).objective <= brief + 1e-12
        assert brief <= BSO().brief.solve(problem, constraint).objective + 1e-12


@every_solver
def test_a_brief_solver_proves_no_bound(name):
    assert SOLVERS[name](bound=True).brief == SOLVERS[name]().brief
    assert not SOLVERS[name](bound=True).brief.bound


def test_nor_does_a_solver_inside_a_brief_one():
    nested = LocalSearch(solver=ActiveSet(solver=IHT(bound=True), bound=True))
    assert nested.brief == LocalSearch(solver=ActiveSet())


def test_a_start_can_only_help_bso():
    problem, dense = random_problem(5, 10, ridge=0.01, first_order=0.0, seed=4)
    start = dense.minimise_on([1, 3, 7])
    plain = BSO().solve(problem, KeepK(size=10, k=3))
    warm = BSO().solve(problem, KeepK(size=10, k=3), start)
    assert warm.objective <= min(plain.objective, dense.value(start) + 1e-12)


def test_the_step_of_bso_is_the_best_of_those_tried():
    differs, shorter = 0, 0
    for seed in range(12):
        problem, dense = random_problem(5, 40, ridge=0.01, first_order=3.0, seed=seed)
        constraint = KeepK(size=40, k=10)
        g, h = dense.gradient, dense.hessian
        trials = []
        for i in range(10):
            step = float(g @ g / (g @ h @ g)) * 0.5**i
            weights = dense.w_bar - step * g
            mask = constraint.select(weights.abs())
            trials.append((dense.value(torch.where(mask, weights, 0)), i, mask))
        _, index, best = min(trials, key=lambda trial: trial[:2])
        shorter += index > 0
        assert torch.equal(_stepped(problem, constraint, 10), best)
        minima = [
            dense.value(dense.minimise_on(mask.nonzero().squeeze(1)))
            for mask in (
                best,
                constraint.select(dense.w_bar.abs()),
                constraint.select(h.diagonal() * dense.w_bar.square()),
            )
        ]
        assert BSO().solve(problem, constraint).objective == pytest.approx(min(minima), rel=1e-8)
        differs += minima[0] < min(minima[1:])
    assert differs
    assert shorter


@pytest.mark.slow
def test_iht_searches_beyond_the_first_step():
    assert any(
        solve(IHT(max_doublings=0), *case).stats.trace != solve(IHT(), *case).stats.trace
        for case in LARGER
    )


def test_the_constant_of_iht_bounds_the_largest_eigenvalue():
    problem, dense = random_problem(40, 100, ridge=0.3, first_order=0.0, seed=1)
    largest = float(torch.linalg.eigvalsh(dense.hessian)[-1])
    assert largest <= lipschitz(problem) <= 1.05 * largest * (1 + 1e-9)


def test_opposite_columns_do_not_hide_the_largest_eigenvalue():
    curvature = GradientGram(DenseRows(torch.tensor([[2.0, 2.0], [-2.0, -2.0]]).double()))
    problem = LocalQuadratic(
        w_bar=torch.ones(2).double(), curvature=curvature, ridge=0.1, shift=curvature.constant(0.0)
    )
    assert lipschitz(problem) == pytest.approx(1.05 * 8.1)


def test_weights_too_small_to_square_end_the_search_of_chita():
    generator = torch.Generator().manual_seed(0)
    data, w_bar = torch.randn(40, 8, generator=generator), torch.randn(40, generator=generator)
    data[:20] = 0
    w_bar[:20] *= 1e-25
    for w in (w_bar, torch.where(w_bar.abs() < 1e-20, 0, w_bar)):
        curvature = GradientGram(DenseRows(data))
        problem = LocalQuadratic(
            w_bar=w, curvature=curvature, ridge=0.1, shift=curvature.constant(0.0)
        )
        for k in (10, 30):
            assert CHITA().solve(problem, KeepK(size=40, k=k)).mask.sum() == k


def test_iht_begins_at_the_start():
    problem, _ = random_problem(**BIG)
    start = torch.zeros(300).double()
    start[:60] = 1.0
    found = IHT(max_iterations=0).solve(problem, KeepK(size=300, k=60), start)
    assert torch.equal(found.weights, start)


def test_weights_that_are_not_finite_are_an_error():
    class Broken(Solver):
        curvatures = ()
        constraints = (KeepK,)
        effort = Effort(streams=0, systems=0)

        def _search(self, problem, constraint, start):
            mask = constraint.select(problem.w_bar.abs())
            return Found(weights=torch.where(mask, float("inf"), 0.0), mask=mask)

    problem, _ = random_problem(**BIG)
    with pytest.raises(NumericalError, match="Broken gave weights that are not finite"):
        Broken().solve(problem, KeepK(size=300, k=6))


def test_running_out_of_rounds_is_a_status():
    assert solve(CHITA(max_rounds=0), 1.0, 1e-3, 0).status == Status.ITERATION_LIMIT
    assert solve(IHT(max_iterations=1), 1.0, 1e-3, 0).status == Status.ITERATION_LIMIT
    assert solve(CHITA(), 1.0, 1e-3, 0).status == Status.CONVERGED


def test_iht_leaves_the_magnitude_support_where_that_pays():
    assert any(
        not torch.equal(solve(IHT(), *case).mask, solve(Magnitude(), *case).mask) for case in LARGER
    )


def test_a_fixed_point_of_iht_is_stationary_on_its_support():
    problem, dense = random_problem(30, 20, ridge=0.5, first_order=1.0, seed=2)
    found = IHT(max_iterations=20_000, tolerance=0).solve(problem, KeepK(size=20, k=8))
    assert dense.gradient_at(found.weights)[found.mask].abs().max() < 1e-5


WRONG = {bool: ("yes", 1), int: ("x", -1, 0.5, True), float: ("x", -1.0, math.nan, True)}
"""By the type of a default, values that no option takes."""


@every_solver
def test_every_option_is_checked_and_says_what_it_is(name):
    for option in described(SOLVERS[name]):
        assert len(option.spec.help.split()) <= 25
        for value in WRONG.get(type(option.default), ("x", 0)):  # a solver inside, or L
            wrong = f"^`{option.name}` is {value!r}; give .*{re.escape(option.spec.help)}$"
            with pytest.raises(InputError, match=wrong):
                SOLVERS[name](**{option.name: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: BSO(tries=0),
        lambda: CHITA(longest_step=0.0),
        lambda: IHT(max_iterations=-1),
        lambda: IHT(lipschitz=0.0),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(InputError):
        make()
