"""Combinatorial brain surgeon, against the sums that it is defined by."""

from dataclasses import replace
from itertools import product
from typing import ClassVar, final

import pytest
import torch

import chita
from chita.constraints import KeepK
from chita.data.digits import digits
from chita.problem import DenseRows, GradientGram, LocalQuadratic
from chita.solvers import CBS, Effort, Found, Solver
from chita.solvers.cbs import Removal, _dealt
from tests.conformance.table import BUDGETS, LAYOUT, P, gradient_gram
from tests.problems import random_problem

CASES = [(6, 40, 10, 0), (40, 30, 12, 1), (12, 60, 45, 2), (3, 25, 1, 3)]
every_case = pytest.mark.parametrize(("n", "p", "k", "seed"), CASES)


def energy(problem, dense, mask):
    """E(P) with every entry of H."""
    h = dense.hessian - problem.ridge * torch.eye(len(mask)).double()
    removed = torch.where(mask, 0, dense.w_bar)
    return float(0.5 * removed @ h @ removed)


@every_case
def test_rounds_lower_e_and_keep_count_of_it(n, p, k, seed):
    problem, dense = random_problem(n, p, ridge=0.1, first_order=1.0, seed=seed)
    constraint = KeepK(size=p, k=k)
    removal = Removal(problem, constraint.select(problem.w_bar))
    for _ in range(20):
        before = energy(problem, dense, removal.mask)
        assert removal.cost == pytest.approx(before, rel=1e-9)
        gain = removal.swap_round(constraint, 4)
        assert constraint.allows(removal.mask)
        assert gain == pytest.approx(before - energy(problem, dense, removal.mask), abs=1e-9)
        assert gain >= 0
        if not gain:
            break
    else:
        pytest.fail("twenty rounds and no end")


@every_case
def test_no_single_swap_lowers_e_at_the_end(n, p, k, seed):
    problem, dense = random_problem(n, p, ridge=0.1, first_order=0.0, seed=seed)
    solver = CBS(draws=0, candidates=p, tolerance=0.0, update=False)
    mask = solver.solve(problem, KeepK(size=p, k=k)).mask
    lowest = energy(problem, dense, mask)
    assert lowest <= energy(problem, dense, KeepK(size=p, k=k).select(problem.w_bar))
    for out, enter in product(mask.nonzero().flatten(), (~mask).nonzero().flatten()):
        swapped = mask.clone()
        swapped[out], swapped[enter] = False, True
        assert energy(problem, dense, swapped) >= lowest - 1e-9


def test_swaps_under_every_budget_are_allowed():
    problem = gradient_gram(torch.float64)()
    for name, budget in BUDGETS.items():
        constraint = budget.bind(LAYOUT)
        removal = Removal(problem, constraint.select(problem.w_bar))
        before = removal.cost
        removal.swap_round(constraint, P)
        assert constraint.allows(removal.mask), name
        assert removal.cost <= before


@every_case
@pytest.mark.parametrize("first_order", [0.0, 1.0])
def test_the_update_is_the_minimum_on_the_mask_and_may_be_left_out(n, p, k, seed, first_order):
    problem, dense = random_problem(n, p, ridge=0.1, first_order=first_order, seed=seed)
    both = CBS().solve(problem, KeepK(size=p, k=k))
    alone = CBS(update=False).solve(problem, KeepK(size=p, k=k))
    assert torch.equal(both.mask, alone.mask)
    assert torch.equal(alone.weights, torch.where(alone.mask, problem.w_bar, 0))
    exact = dense.minimise_on(both.mask.nonzero().flatten())
    assert torch.allclose(both.weights, exact, rtol=1e-6, atol=1e-9)


def test_rounds_end_in_float32_too():
    """E near zero, where what was added up would drift: it is taken from the image anew."""
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        scales = torch.logspace(-1, 0.5, 1500)[torch.randperm(1500, generator=generator)]
        curvature = GradientGram(
            DenseRows(torch.randn(1500, 4, generator=generator) * scales[:, None])
        )
        problem = LocalQuadratic(
            w_bar=torch.randn(1500, generator=generator),
            curvature=curvature,
            ridge=0.1,
            shift=curvature.constant(0.0),
        )
        found = CBS(draws=0, update=False).solve(problem, KeepK(size=1500, k=700))
        assert found.status == "converged"


def test_a_loss_that_is_no_number_is_no_good():
    problem, _ = random_problem(20, 80, ridge=0.1, first_order=0.0, seed=0)
    constraint = KeepK(size=80, k=20)
    largest = constraint.select(problem.w_bar)

    def loss(weights):
        return float("nan") if torch.equal(weights != 0, largest) else 1.0

    found = CBS(draws=3, update=False).solve(replace(problem, loss=loss), constraint)
    assert not torch.equal(found.mask, largest)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_judges_where_it_is_known(seed):
    """A loss that favours a mask near one which E does not: the best met by it is kept."""
    problem, _ = random_problem(20, 80, ridge=0.1, first_order=0.0, seed=seed)
    constraint = KeepK(size=80, k=20)
    wanted = torch.randperm(80, generator=torch.Generator().manual_seed(seed))[:40]
    asked = []

    def loss(weights):
        asked.append(weights.clone())
        return -float((weights[wanted] != 0).sum())

    judged = replace(problem, loss=loss)
    found = CBS(draws=30, update=False).solve(judged, constraint)
    losses = [loss(weights) for weights in list(asked)]
    assert loss(found.weights) == min(losses)
    for weights in asked:  # only masks of the budget, and weights as they are
        mask = weights != 0
        assert int(mask.sum()) == 20
        assert torch.equal(weights[mask], problem.w_bar[mask])
    plain = CBS(draws=30, update=False).solve(problem, constraint)
    assert loss(found.weights) <= loss(plain.weights)
    assert loss(found.weights) < loss(torch.where(constraint.select(problem.w_bar), 1.0, 0.0))


def test_without_draws_and_rounds_it_is_magnitude():
    problem, _ = random_problem(20, 80, ridge=0.1, first_order=0.0, seed=0)
    constraint = KeepK(size=80, k=20)
    found = CBS(draws=0, max_rounds=0, update=False).solve(problem, constraint)
    assert torch.equal(found.mask, constraint.select(problem.w_bar))
    assert found.status == "iteration limit"


def test_every_chunk_of_a_draw_keeps_its_share():
    generator = torch.Generator().manual_seed(0)
    w_bar = torch.randn(10_000, generator=generator)
    scores = _dealt(w_bar, 0.1, torch.Generator().manual_seed(5))
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(5))
    dealt = w_bar[order].abs().view(100, 100)
    assert ((scores >= 1)[order].view(100, 100).sum(1) == 10).all()
    kept = (scores >= 1)[order].view(100, 100)
    assert (dealt.where(kept, dealt.max()).amin(1) >= dealt.where(~kept, dealt.min()).amax(1)).all()
    again = _dealt(w_bar, 0.1, torch.Generator().manual_seed(5))
    other = _dealt(w_bar, 0.1, torch.Generator().manual_seed(6))
    assert torch.equal(scores, again)
    assert not torch.equal(scores >= 1, other >= 1)


def test_draws_where_most_weights_are_zero_or_all_are():
    w_bar = torch.zeros(60)
    assert not _dealt(w_bar, 0.5, torch.Generator().manual_seed(0)).any()
    w_bar[7] = -2.0
    scores = _dealt(w_bar, 0.5, torch.Generator().manual_seed(0))
    assert scores.nonzero().flatten().tolist() == [7]
    w_bar = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    w_bar[torch.randperm(10_000, generator=torch.Generator().manual_seed(2))[300:]] = 0
    w_bar[w_bar.nonzero()[0]] = 1e-30
    scores = _dealt(w_bar, 0.02, torch.Generator().manual_seed(3))
    assert torch.isfinite(scores.square()).all()
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(3))
    dealt, kept = w_bar[order].view(100, 100) != 0, (scores[order] >= 1).view(100, 100)
    assert torch.equal(kept.sum(1), dealt.sum(1).clamp_max(2))  # chunks of few keep all of them


def test_seeds_draw_other_masks_and_counts_are_kept():
    problem, _ = random_problem(20, 200, ridge=0.1, first_order=0.0, seed=3)
    floors = KeepK(size=200, k=50, segments=(slice(0, 20), slice(20, 200)), least=(15, 0))
    largest = floors.select(problem.w_bar)
    other = replace(problem, loss=lambda weights: float((weights != 0)[largest].sum()))
    masks = [CBS(seed=seed, draws=1, max_rounds=0).solve(other, floors).mask for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert all(floors.allows(mask) for mask in masks)


@final
class Asking(Solver):
    """Back-solve, and the loss of what it finds is told."""

    curvatures: ClassVar = (GradientGram,)
    constraints: ClassVar = (KeepK,)
    told: ClassVar[list[float]] = []

    @property
    def effort(self):
        return Effort(streams=1, systems=1)

    def _search(self, problem, constraint, start):
        mask = constraint.select(problem.w_bar)
        weights = problem.minimise_on(mask.nonzero().squeeze(1)).weights
        self.told.append(problem.loss and problem.loss(weights))
        return Found(weights=weights, mask=mask)


def test_a_run_gives_a_solver_the_loss_on_the_samples_held_out():
    model = chita.load_model("digits-mlp")
    options = {
        "fisher": chita.Fisher(samples=300),
        "quadratic": chita.Quadratic(ridge=0.1, first_order=0, step_size=1),
        "validation": 200,
    }
    found = chita.prune(model, digits()[0], sparsity=0.9, solver=Asking(), **options)
    assert Asking.told.pop() == found.record.stages[0].validation_loss
    chita.prune(model, digits()[0], sparsity=0.9, solver=Asking(), **{**options, "validation": 0})
    assert Asking.told.pop() is None
    losses = {
        solver: chita.prune(model, digits()[0], sparsity=0.95, solver=solver, **options)
        for solver in (CBS(update=False), CBS(update=False, draws=0, max_rounds=0))
    }
    ours, largest = (result.record.stages[0].validation_loss for result in losses.values())
    assert ours <= largest
