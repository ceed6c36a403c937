"""The active set: descent, and an end that no step leads out of."""

from itertools import pairwise

import pytest
import torch

from chita.constraints import KeepK
from chita.errors import InputError
from chita.problem import LocalQuadratic
from chita.solvers import BSO, CD, CHITA, IHT, Magnitude
from chita.solvers.baselines import ActiveSet
from chita.solvers.iht import lipschitz
from tests.problems import random_problem

CASES = [(s, lam, seed) for s in (0.0, 1.0) for lam in (1e-3, 0.1) for seed in range(2)]
every_case = pytest.mark.parametrize(
    ("first_order", "ridge", "seed"),
    [
        pytest.param(*case, marks=(pytest.mark.slow,) if case[-1] or case[1] < 0.1 else ())
        for case in CASES
    ],
)
KEEP = KeepK(size=300, k=30)


@every_case
@pytest.mark.parametrize("inner", [IHT(max_iterations=100), BSO(), CD(), CHITA(), Magnitude()])
def test_q_never_rises(first_order, ridge, seed, inner):
    problem, dense = random_problem(40, 300, ridge=ridge, first_order=first_order, seed=seed)
    found = ActiveSet(solver=inner).solve(problem, KEEP)
    assert all(later <= earlier for earlier, later in pairwise(found.stats.trace))
    beginning = torch.where(KEEP.select(dense.w_bar.abs()), dense.w_bar, 0)
    assert found.stats.trace[0] == pytest.approx(dense.value(beginning))
    assert found.stats.trace[-1] == pytest.approx(dense.value(found.weights))


@every_case
def test_the_end_is_one_that_no_step_leads_out_of(first_order, ridge, seed):
    problem, dense = random_problem(40, 300, ridge=ridge, first_order=first_order, seed=seed)
    solver = ActiveSet(solver=IHT(max_iterations=60, tolerance=0))
    seen, parts = [], []

    def watched(self, index):
        seen.append(torch.zeros(300, dtype=torch.bool).index_fill_(0, index, True))
        parts.append(original(self, index))
        return parts[-1]

    original = LocalQuadratic.restrict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalQuadratic, "restrict", watched)
        found = solver.solve(problem, KEEP)
    if not seen:  # more than half became active, so all weights did
        return
    active, first_step = seen[-1], 1 / lipschitz(parts[0])
    gradient = dense.gradient_at(found.weights)
    for doubling in range(solver.tries):
        moved = found.weights - first_step * 2**doubling * gradient
        assert not bool((KEEP.select(moved.abs()) & ~active).any())
    assert bool(active[found.mask].all())
    sizes = [int(a.sum()) for a in seen]
    assert 30 <= sizes[0] <= 30 + 45  # the 1.5 k largest, and the k from which they come
    assert all(b > a for a, b in pairwise(sizes))


def test_first_step_is_the_constant_of_the_first_active_set():
    problem, _ = random_problem(40, 300, ridge=0.1, first_order=0.0, seed=0)
    index = torch.arange(0, 300, 3)
    part = problem.restrict(index)
    dense = part.curvature.block(torch.arange(100))
    assert lipschitz(part) == pytest.approx(
        1.05 * (float(torch.linalg.eigvalsh(dense)[-1]) + 0.1), rel=0.06
    )


@pytest.mark.slow
def test_it_grows_where_that_pays():
    gains = []
    for first_order, ridge, seed in CASES[::2]:
        problem, _ = random_problem(40, 300, ridge=ridge, first_order=first_order, seed=seed)
        grown = ActiveSet().solve(problem, KEEP).objective
        gains.append(ActiveSet(max_rounds=0).solve(problem, KEEP).objective - grown)
    assert min(gains) >= -1e-9
    assert max(gains) > 0


def test_it_keeps_floors_and_takes_all_weights_where_many_are_kept():
    problem, _ = random_problem(40, 300, ridge=0.1, first_order=1.0, seed=5)
    floors = KeepK(size=300, k=40, segments=(slice(0, 100), slice(100, 300)), least=(35, 1))
    short = ActiveSet(solver=IHT(max_iterations=100))
    assert floors.allows(short.solve(problem, floors).mask)
    many = KeepK(size=300, k=200)
    alone = IHT().solve(problem, many)
    inside = ActiveSet().solve(problem, many)
    assert inside.objective == pytest.approx(alone.objective, rel=1e-9)


@pytest.mark.parametrize("options", [{"share": 0.5}, {"tries": 0}, {"solver": 3}, {"share": "a"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=f"`{next(iter(options))}` is"):
        ActiveSet(**options)
