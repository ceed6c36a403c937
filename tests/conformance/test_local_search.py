"""Swaps: their prices against dense algebra, and what their end promises."""

from itertools import pairwise, product

import pytest

import chita
from chita.constraints import KeepK
from chita.data.digits import digits
from chita.errors import InputError
from chita.solvers import BSO, CHITA, IHT, Magnitude
from chita.solvers.baselines import LocalSearch
from chita.solvers.named import make_solver
from tests.dense import swapped_supports
from tests.problems import random_problem

CASES = [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(4, 10, 6), (12, 10, 4), (6, 12, 6)]
    for first_order, ridge in [(0.0, 0.1), (1.0, 0.01), (1.0, 1.0)]
    for seed in range(3)
]


def minimum(dense, mask):
    return dense.value(dense.minimise_on(mask.nonzero().flatten()))


@pytest.mark.parametrize("inner", [Magnitude(), CHITA()])
def test_the_end_cannot_be_improved_by_one_swap(inner, subtests):
    for case in CASES:
        with subtests.test(case=case):
            check_end(inner, *case)


def check_end(inner, n, p, k, first_order, ridge, seed):
    problem, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    constraint = KeepK(size=p, k=k)
    begun = inner.solve(problem, constraint)
    found = LocalSearch(solver=inner, tolerance=0).solve(problem, constraint)
    assert found.objective <= begun.objective + 1e-12
    assert all(later <= earlier for earlier, later in pairwise(found.stats.trace))
    here = dense.value(dense.minimise_on(found.mask.nonzero().flatten()))
    lowest = float(dense.minima(swapped_supports(found.mask)).min())
    assert lowest >= here - 1e-9 * abs(here) - 1e-11


def test_the_end_under_floors_cannot_be_improved_by_an_allowed_swap():
    for seed in range(8):
        problem, dense = random_problem(8, 12, ridge=0.1, first_order=1.0, seed=seed)
        constraint = KeepK(
            size=12, k=5, segments=(slice(0, 4), slice(4, 8), slice(8, 12)), least=(2, 2, 1)
        )
        found = LocalSearch(solver=Magnitude(), tolerance=0).solve(problem, constraint)
        here = minimum(dense, found.mask)
        for i, j in product(found.mask.nonzero().flatten(), (~found.mask).nonzero().flatten()):
            other = found.mask.clone()
            other[i], other[j] = False, True
            if constraint.allows(other):
                assert minimum(dense, other) >= here - 1e-9 * abs(here) - 1e-11


def test_several_swaps_of_a_round_keep_the_floors_together():
    """Each alone would be allowed; the segment they would leave has fewer to spare."""
    tight = 0
    for seed in range(6):
        problem, _ = random_problem(40, 300, ridge=0.1, first_order=1.0, seed=seed)
        weights = problem.w_bar.abs()
        kept = int(KeepK(size=300, k=60).select(weights)[:100].sum())
        floors = KeepK(
            size=300, k=60, segments=(slice(0, 100), slice(100, 300)), least=(kept - 2, 1)
        )
        found = LocalSearch(solver=Magnitude()).solve(problem, floors)
        assert floors.allows(found.mask)
        tight += int(found.mask[:100].sum()) == kept - 2
    assert tight


def test_it_improves_on_what_it_wraps_where_there_is_something_to_gain():
    gains = []
    for seed in range(5):
        problem, _ = random_problem(40, 300, ridge=0.05, first_order=0.0, seed=seed)
        constraint = KeepK(size=300, k=60)
        by_size = BSO().solve(problem, constraint).objective
        swapped = LocalSearch(solver=BSO()).solve(problem, constraint)
        few = LocalSearch(solver=BSO(), candidates=8).solve(problem, constraint)
        gains += [by_size - swapped.objective, by_size - few.objective]
        for inner in (IHT(max_iterations=40), CHITA(max_swap_rounds=0)):
            begun = inner.solve(problem, constraint).objective
            gains.append(begun - LocalSearch(solver=inner).solve(problem, constraint).objective)
    assert min(gains) >= 0
    assert max(gains) > 0


def test_it_needs_a_ridge_and_a_solver():
    problem, _ = random_problem(20, 10, ridge=0.0, first_order=0.0, seed=0)
    with pytest.raises(InputError, match="one above zero"):
        LocalSearch().solve(problem, KeepK(size=10, k=3))
    with pytest.raises(InputError, match=r"`solver` is 'bso'; give a solver such as BSO\(\)"):
        LocalSearch(solver="bso")
    with pytest.raises(InputError, match="`candidates` is 0"):
        LocalSearch(candidates=0)


def test_the_solver_inside_is_named_in_options_and_record():
    assert make_solver("local-search", {"solver": "bso"}) == LocalSearch(solver=BSO())
    with pytest.raises(InputError, match="Unknown solver 'bzo'"):
        make_solver("local-search", {"solver": "bzo"})
    model = chita.load_model("digits-mlp")
    solver = LocalSearch(solver=BSO(), max_rounds=2)
    options = {
        "budget": chita.Nonzeros(900, min_keep=0),
        "fisher": chita.Fisher(samples=50),
        "quadratic": chita.Quadratic(ridge=0.1, first_order=1, step_size=1),
    }
    result = chita.prune(model, digits()[0], solver=solver, **options)
    assert result.record.options["solver"] == "bso"
    assert result.record.solver == "local-search"
