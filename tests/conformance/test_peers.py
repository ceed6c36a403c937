"""The default solver against its peers: it is never the worse one."""

import functools

import pytest

from chita.constraints import KeepK
from chita.solvers import BSO, CD, CHITA, IHT
from chita.solvers.baselines import ActiveSet
from tests.conformance.table import BUDGETS, CURVATURES, LAYOUT, first_or_slow
from tests.problems import INSTANCES, random_problem

PEERS = {
    "iht": IHT(),
    "cd": CD(),
    "active-set": ActiveSet(),
    "active-set of bso": ActiveSet(solver=BSO()),
}
TRIPLES = [
    pytest.param(peer, curvature, budget, marks=first_or_slow(curvature, budget, peer))
    for peer in PEERS
    for curvature in CURVATURES
    for budget in BUDGETS
    if curvature != "NoCurvature"
]
COMPARED = INSTANCES + [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(40, 300, 60), (40, 300, 15), (30, 200, 100), (200, 100, 30)]
    for first_order in (0.0, 1.0)
    for ridge in (1e-3, 0.1, 1.0)
    for seed in range(2)
    if seed or (n, k) in ((40, 60), (200, 30))
]
SEEDS = [0, pytest.param(1, marks=pytest.mark.slow)]


@functools.cache
def ours_at(n, p, k, first_order, ridge, seed):
    problem, _ = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    return CHITA().solve(problem, KeepK(size=p, k=k)).objective


@functools.cache
def ours_in(curvature, budget):
    problem, constraint = CURVATURES[curvature](), BUDGETS[budget].bind(LAYOUT)
    return CHITA().solve(problem, constraint).objective


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("peer", PEERS)
def test_chita_is_not_worse(peer, seed):
    for n, p, k, first_order, ridge, _ in [case for case in COMPARED if case[-1] == seed]:
        problem, _ = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
        ours = ours_at(n, p, k, first_order, ridge, seed)
        theirs = PEERS[peer].solve(problem, KeepK(size=p, k=k)).objective
        assert ours <= theirs + 1e-9 * abs(theirs) + 1e-11, (n, p, k, first_order, ridge, seed)


@pytest.mark.parametrize(("peer", "curvature", "budget"), TRIPLES)
def test_chita_is_not_worse_on_the_conformance_table(peer, curvature, budget):
    problem, constraint = CURVATURES[curvature](), BUDGETS[budget].bind(LAYOUT)
    if not PEERS[peer].takes(type(problem.curvature)):
        return
    ours = ours_in(curvature, budget)
    theirs = PEERS[peer].solve(problem, constraint).objective
    assert ours <= theirs + 1e-7 * abs(theirs) + 1e-11
