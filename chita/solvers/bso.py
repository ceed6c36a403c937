"""Back-solve: choose a support, then the exact ridge solution on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError
from chita.problem import Curvature, LocalQuadratic, Minimum
from chita.solvers.solver import Effort, Found, Solver


@final
@dataclass(frozen=True, kw_only=True)
class BSO(Solver):
    """The best of a few supports, each with its exact minimum.

    Supports: the largest weights; those of `start`, if given; and, where Q falls along -g from
    w̄ (a first-order term), those of the best thresholded step P(w̄ - τg) among
    τ = τ*, τ*/2, ..., `tries` of them, τ* the minimiser of Q along -g. Since the first support is
    always among them, Q is never above that of the largest weights.

    Benbaki et al., CHITA (2023), CHITA-BSO. Departure: there the thresholded step replaces the
    magnitude support, here it competes with it.

    Fields: `tries`, step lengths tried, at least 1.
    """

    tries: int = 10

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (Curvature,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tries < 1:
            raise InputError(f"tries is {self.tries}; give at least 1.")

    @property
    def effort(self) -> Effort:
        """One or two supports."""
        return Effort(streams=12, systems=2)

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        mask, minimum = best_minimum(problem, constraint, start, self.tries)
        return Found(weights=minimum.weights, mask=mask, trace=(minimum.objective,))


def best_minimum(
    problem: LocalQuadratic, constraint: Constraint, start: Tensor | None, tries: int
) -> tuple[Tensor, Minimum]:
    """Return the mask (p,) and the minimum of the best support that `BSO` considers."""
    masks = supports(problem, constraint, start, tries)
    best = masks[0], problem.minimise_on(masks[0].nonzero().squeeze(1))
    for mask in masks[1:]:
        minimum = problem.minimise_on(mask.nonzero().squeeze(1), near=best[1].factor)
        if minimum.objective < best[1].objective:
            best = mask, minimum
    return best


def supports(
    problem: LocalQuadratic, constraint: Constraint, start: Tensor | None, tries: int
) -> list[Tensor]:
    """The masks (p,) that `BSO` considers, that of the largest weights first."""
    masks = [constraint.select(problem.w_bar.abs())]
    masks.append(constraint.select(costs(problem)))
    if start is not None:
        masks.append(constraint.select(start.abs()))
    if bool(problem.shift.any()):  # else there is no first-order term
        masks.append(_stepped(problem, constraint, tries))
    return masks


def _stepped(problem: LocalQuadratic, constraint: Constraint, tries: int) -> Tensor:
    """The support of the thresholded step from w̄ at which Q is lowest."""
    gradient = problem.gradient
    longest, _ = problem.descent(gradient)
    trials = []
    for i in range(tries):
        weights = problem.w_bar - (longest * 0.5**i) * gradient
        mask = constraint.select(weights.abs())
        support = mask.nonzero().squeeze(1)
        residual = problem.residual(weights[support], support)
        trials.append((problem.value_at(residual, torch.where(mask, weights, 0)), i, mask))
    return min(trials, key=lambda trial: trial[:2])[2]


def costs(problem: LocalQuadratic) -> Tensor:
    """Return (H_jj + λ) w̄_j² (p,): twice what the removal of each weight alone would cost."""
    return (problem.curvature.diagonal() + problem.ridge) * problem.w_bar.square()
