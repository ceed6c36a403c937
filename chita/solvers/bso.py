"""Back-solve: choose a support, then the exact ridge solution on it."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import LocalQuadratic, Minimum
from chita.solvers.solver import Effort, Found, Solver


@final
class BSO(Solver):
    """The best of a few supports, each with its exact minimum.

    Supports, in this order: the weights whose removal alone would cost most, of largest
    (H_jj + λ) w̄_j² (LeCun et al., Optimal brain damage, 1989); where Q falls along -g from w̄ (a
    first-order term), those of the best thresholded step P(w̄ - ηg) among η = η*, η*/2, ...,
    `tries` of them, η* the minimiser of Q along -g; the largest weights; those of `start`, if
    given. With four supports Q is never above that of the largest weights.

    Benbaki et al., CHITA (2023), CHITA-BSO. Departure: there the thresholded step replaces the
    magnitude support, here all compete.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> BSO().solve(q, KeepK(size=2, k=1)).weights  # (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    tries: int = option(
        10, "Thresholded steps tried, each half as long as the one before.", at_least=1
    )
    max_supports: int = option(4, "Supports compared at most.", at_least=1)

    @property
    def effort(self) -> Effort:
        """Two or three supports."""
        return Effort(streams=12, systems=min(3, self.max_supports))

    @property
    def brief(self) -> BSO:
        """The first two supports."""
        return replace(self.without_bound, max_supports=min(self.max_supports, 2))

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        masks = supports(problem, constraint, start, self.tries)[: self.max_supports]
        mask, minimum = best_minimum(problem, masks)
        return Found.at(minimum, mask)


def best_minimum(problem: LocalQuadratic, masks: list[Tensor]) -> tuple[Tensor, Minimum]:
    """Return the mask (p,), of several, on whose support the minimum is lowest, and that."""
    best = masks[0], problem.minimise_on(masks[0].nonzero().squeeze(1))
    for mask in masks[1:]:
        # Supports share most of their weights, so the Gram of the best so far is updated.
        minimum = problem.minimise_on(mask.nonzero().squeeze(1), near=best[1].factor)
        if minimum.objective < best[1].objective:
            best = mask, minimum
    return best


def supports(
    problem: LocalQuadratic, constraint: Constraint, start: Tensor, tries: int
) -> list[Tensor]:
    """Return the masks (p,) that `BSO` considers, in its order."""
    masks = [constraint.select(costs(problem).sqrt())]
    if bool(problem.shift.any()):  # else there is no first-order term
        masks.append(_stepped(problem, constraint, tries))
    masks.append(constraint.select(problem.w_bar))
    if start is not problem.w_bar:  # whose largest weights are there
        masks.append(constraint.select(start))
    return masks


def _stepped(problem: LocalQuadratic, constraint: Constraint, tries: int) -> Tensor:
    """Return the support of the thresholded step from w̄ at which Q is lowest."""
    gradient = problem.gradient
    # Without a constraint η* would be best; cut to k weights, a shorter step often is.
    longest, _ = problem.descent(gradient)
    trials = []
    for i in range(tries):
        weights = problem.w_bar - (longest * 0.5**i) * gradient
        mask = constraint.select(weights)
        support = mask.nonzero().squeeze(1)
        residual = problem.residual(weights[support], support)
        trials.append((problem.value_at(residual, torch.where(mask, weights, 0)), mask))
    return min(trials, key=lambda trial: trial[0])[1]  # the longest step among equals


def costs(problem: LocalQuadratic) -> Tensor:
    """Return (H_jj + λ) w̄_j² (p,): twice what the removal of each weight alone would cost."""
    return (problem.curvature.diagonal() + problem.ridge) * problem.w_bar.square()
