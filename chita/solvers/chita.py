"""The default: rounds of thresholding and back-solving."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError
from chita.problem import Curvature, LocalQuadratic, Minimum
from chita.solvers.bso import best_minimum
from chita.solvers.solver import Effort, Found, Solver, Status

_HALVINGS = 40  # of one step: beyond, scores of tiny weights tie or vanish in rounding


@final
@dataclass(frozen=True, kw_only=True)
class CHITA(Solver):
    """Start from the back-solve, then exchange many weights at a time while Q falls.

    A round takes the minimum w on the present support, where the gradient g is zero on the
    support, and back-solves on the support of P(w - τ g/M), P the projection in the metric M: the
    mask of largest sum of √M |w - τ g/M|. τ is halved until Q falls and doubled (up to
    `longest_step`/λ) after a round that succeeded; it carries over to the next round. A τ that
    moves nothing ends the search in that metric: a shorter one moves nothing either.

    Two metrics of mean 1 take turns, each until it moves nothing: M = 1, and M = diag(H) + λ
    scaled, in which weights of different curvature compare as they do in a diagonal problem. The
    search ends when neither lowers Q.

    Q never rises, and is never above that of `bso`, whose result is the starting point.

    Composition of the thresholding step and the back-solve of Benbaki et al., CHITA (2023).
    Departure: there the support is chosen once and then solved.

    Fields:
        max_rounds: rounds at most, those that fail among them.
        tolerance: a round that lowers Q by no more than this share of |Q| counts as failed.
        longest_step: τ at most, in units of 1/λ; at M = 1 and τ = 1/λ a removed weight competes
            with the value w̄_j - a_jᵀα that it would take if the others' pull stayed as it is.
        tries: see `BSO`.
    """

    max_rounds: int = 100
    tolerance: float = 1e-6
    longest_step: float = 1.0
    tries: int = 10

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (Curvature,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_rounds < 0 or self.tolerance < 0 or self.longest_step <= 0 or self.tries < 1:
            raise InputError(
                f"{self}: max_rounds and tolerance are at least 0, tries at least 1, and "
                "longest_step is positive."
            )

    @property
    def effort(self) -> Effort:
        """Some tens of trial supports, most of them near another."""
        rounds = min(self.max_rounds, 60)
        return Effort(streams=12 + 3 * rounds, systems=2 + rounds // 3)

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        mask, best = best_minimum(problem, constraint, start, self.tries)
        trace = [best.objective]
        diagonal = problem.curvature.diagonal() + problem.ridge
        mean = problem.space.sum(diagonal) / len(diagonal)
        # Where the ridge vanishes beside H, a millionth of the mean curvature bounds the step.
        longest = self.longest_step / max(problem.ridge, 1e-6 * mean, 1e-30)
        metrics = deque([torch.ones_like(diagonal), (diagonal / max(mean, 1e-30)).clamp_min(1e-6)])
        step, failures = longest, 0
        for _ in range(self.max_rounds):
            exchanged = _exchange(problem, constraint, mask, best, metrics[0], step)
            if exchanged is not None:
                mask, best, taken = exchanged
                trace.append(best.objective)
                step = min(2 * taken, longest)
                gain = trace[-2] - trace[-1]
                if gain > max(self.tolerance * abs(trace[-1]), problem.rounding):
                    failures = 0
                    continue
            failures += 1
            if failures == len(metrics):
                return Found(weights=best.weights, mask=mask, trace=tuple(trace))
            metrics.rotate()
            step = longest
        return Found(
            weights=best.weights, mask=mask, status=Status.ITERATION_LIMIT, trace=tuple(trace)
        )


def _exchange(
    problem: LocalQuadratic,
    constraint: Constraint,
    mask: Tensor,
    best: Minimum,
    metric: Tensor,
    step: float,
) -> tuple[Tensor, Minimum, float] | None:
    """The first of the halved steps whose support has a lower minimum, or None."""
    gradient = problem.gradient_from(best.residual, best.weights)
    gradient[mask] = 0  # exactly so at a minimum on the support; what is left is rounding
    for _ in range(_HALVINGS):
        moved = metric * best.weights - step * gradient  # metric times the point of the step
        trial = constraint.select(moved.abs() / metric.sqrt())
        if torch.equal(trial, mask):
            return None
        minimum = problem.minimise_on(trial.nonzero().squeeze(1), near=best.factor)
        if minimum.objective < best.objective:
            return trial, minimum, step
        step /= 2
    return None
