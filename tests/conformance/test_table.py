"""What every solver promises, for each curvature and budget of the conformance table."""

import pkgutil

import pytest
import torch

import chita.solvers
from chita.constraints import Budget, KeepK, UnderFlops
from chita.constraints.sparsity import WeightBudget
from chita.errors import InputError
from chita.problem import Curvature, NoCurvature
from chita.solvers import BASELINES, SOLVERS, baselines
from chita.solvers.named import make_solver
from tests.conformance.table import BUDGETS, CURVATURES, LAYOUT, QUICK, TRIPLES, Narrowed, P

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
    named = {type(budget) for budget in BUDGETS.values()} - {Narrowed}
    found = {*Budget.__subclasses__(), *WeightBudget.__subclasses__()} - {WeightBudget}
    assert named == {kind for kind in found if "chita" in kind.__module__}


def accepts(solver, problem):
    """Whether the curvature is one of those that the solver names; none is none of these."""
    blind = isinstance(problem.curvature, NoCurvature)
    return not blind and isinstance(problem.curvature, solver.curvatures)


def first_accepted(solver):
    """The first problem of the table that a solver accepts."""
    problems = (make() for make in CURVATURES.values())
    return next(p for p in problems if not solver.curvatures or accepts(solver, p))


@pytest.mark.parametrize(("name", "curvature", "budget"), TRIPLES)
def test_the_promises(name, curvature, budget):
    problem, constraint = CURVATURES[curvature](), BUDGETS[budget].bind(LAYOUT)
    solver = QUICK[name]
    accepted = not solver.curvatures or accepts(solver, problem)
    if not accepted or not isinstance(constraint, solver.constraints):
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
