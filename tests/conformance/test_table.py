"""What every solver promises, for each curvature and budget of the conformance table."""

import pkgutil
from collections import Counter
from inspect import isabstract
from itertools import product

import pytest
import torch

import chita.solvers
from chita.constraints import Budget, KeepK, MaxLoss, UnderFlops
from chita.errors import InputError
from chita.problem import Curvature
from chita.solvers import BASELINES, SOLVERS, baselines
from chita.solvers.named import make_solver
from tests.conformance.table import (
    BUDGETS,
    CURVATURES,
    LAYOUT,
    QUICK,
    Narrowed,
    P,
    accepts,
    fast_budgets,
)

every_solver = pytest.mark.parametrize("name", SOLVERS)


@every_solver
def test_the_table_lists_the_file_of_that_name(name):
    package = "chita.solvers.baselines" if name in BASELINES else "chita.solvers"
    assert SOLVERS[name].__module__ == f"{package}.{name.replace('-', '_')}"


def test_every_file_is_in_the_table():
    for package, names in ((baselines, BASELINES), (chita.solvers, SOLVERS.keys() - BASELINES)):
        files = {module.name for module in pkgutil.iter_modules(package.__path__)}
        shared = {"solver", "named", "swaps", "baselines"}
        assert files - shared == {name.replace("-", "_") for name in names}


def test_baselines_have_names_and_a_package_of_their_own():
    assert list(SOLVERS)[-len(BASELINES) :] == list(BASELINES)
    assert not {kind.__name__ for kind in BASELINES.values()} & set(chita.solvers.__all__)
    assert all(type(make_solver(name)) is kind for name, kind in BASELINES.items())


def test_every_curvature_and_budget_is_in_the_table():
    made = {type(make().curvature) for make in CURVATURES.values()}
    assert made == {kind for kind in Curvature.__subclasses__() if "chita" in kind.__module__}
    named = {type(budget) for budget in BUDGETS.values()} - {Narrowed} | {
        MaxLoss
    }  # solved at several sparsities
    kinds = {kind for base in (Budget, *Budget.__subclasses__()) for kind in base.__subclasses__()}
    assert named == {k for k in kinds if "chita" in k.__module__ and not isabstract(k)}


def first_accepted(solver):
    """The first problem of the table that a solver accepts."""
    return next(make() for name, make in CURVATURES.items() if accepts(solver, name, "Nonzeros"))


def test_the_fast_cover_meets_every_budget_with_three_solvers():
    covers = {name: fast_budgets(name) for name in SOLVERS}
    assert all(cover.keys() == CURVATURES.keys() for cover in covers.values())
    solved = Counter(
        budget
        for name, cover in covers.items()
        for budget in {b for c, b in cover.items() if accepts(QUICK[name], c, b)}
    )
    assert {budget: solved[budget] for budget in BUDGETS if solved[budget] < 3} == {}


@every_solver
def test_the_promises(name, subtests):
    for curvature, budget in fast_budgets(name).items():
        with subtests.test(curvature=curvature, budget=budget):
            check_promises(name, curvature, budget)


@pytest.mark.slow
@every_solver
def test_the_promises_on_the_whole_table(name, subtests):
    for curvature, budget in product(CURVATURES, BUDGETS):
        with subtests.test(curvature=curvature, budget=budget):
            check_promises(name, curvature, budget)


def check_promises(name, curvature, budget):
    """Feasible, honest about its objective, the same bits again, and nothing given is changed."""
    problem, constraint = CURVATURES[curvature](), BUDGETS[budget].bind(LAYOUT)
    solver = QUICK[name]
    if not accepts(solver, curvature, budget):
        with pytest.raises(InputError, match=f"{type(solver).__name__} does not accept"):
            solver.solve(problem, constraint)
        return
    w_bar, image = problem.w_bar.clone(), problem.curvature.image(problem.w_bar)
    start = torch.linspace(-1, 1, P).to(w_bar)
    before = start.clone()
    found, warm = solver.solve(problem, constraint), solver.solve(problem, constraint, start)

    for solution in (found, warm):
        assert constraint.allows(solution.mask)
        kept, most = int(solution.mask.sum()), BUDGETS[budget].kept(LAYOUT)
        assert kept <= most if isinstance(constraint, UnderFlops) else kept == most
        assert not solution.weights[~solution.mask].any()
        exact = problem.value(solution.weights)
        assert solution.objective == exact
        if solution.stats.trace:
            assert solution.stats.trace[-1] == pytest.approx(exact, rel=1e-5, abs=1e-9)
    for again, once in ((solver.solve(problem, constraint), found),
                        (solver.solve(problem, constraint, start), warm)):  # fmt: skip
        assert torch.equal(again.weights, once.weights)
        assert torch.equal(again.mask, once.mask)
        assert again.objective == once.objective
    assert torch.equal(start, before)
    assert torch.equal(problem.w_bar, w_bar)
    assert torch.equal(problem.curvature.image(problem.w_bar), image)


@every_solver
def test_sizes_that_differ_are_refused(name):
    problem = first_accepted(SOLVERS[name]())
    with pytest.raises(InputError, match=rf"problem {P}, constraint 10 weights"):
        SOLVERS[name]().solve(problem, KeepK(size=10, k=2))
    with pytest.raises(InputError, match="start 3"):
        SOLVERS[name]().solve(problem, KeepK(size=P, k=2), torch.ones(3))


@every_solver
def test_a_budget_that_it_does_not_accept_is_refused_by_name(name, monkeypatch):
    solver = SOLVERS[name]()
    monkeypatch.setattr(type(solver), "constraints", (KeepK,))
    problem = first_accepted(solver)
    fixed = BUDGETS["FixedMasks"].bind(LAYOUT)
    with pytest.raises(InputError, match=f"{type(solver).__name__} does not accept Exactly"):
        solver.solve(problem, fixed)


@every_solver
def test_effort_is_told(name):
    effort = SOLVERS[name]().effort
    assert effort.streams >= effort.systems >= 0
    assert (effort.streams > 0) == bool(SOLVERS[name].curvatures)
