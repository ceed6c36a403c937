"""Ridge, first-order scale and step, chosen by the true loss on samples held out.

A lower Q is often a worse network, since Q is a model of the loss around w̄ that many weights leave
at once. λ bounds how far they go, s says how much of the way is training, and τ how much of it is
gone at all; which is right is asked of samples that made no row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import NumericalError
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.pruning.pose import AUTO, Pose, Ridge
from chita.records import StageRecord, TrialRecord
from chita.solvers import Solution, Solver
from chita.solvers.bso import costs

_FIRST_RIDGE = 0.5  # the first λ tried, relative to the mean curvature
_TOLERANCE = 0.02  # share of the loss that a change must gain, while all stages are left
_NOTHING = 0.002  # in the last
_COARSE, _FINE = 4.0, 2.0  # ratios of neighbouring λ
_SCALES = (1.0, 0.5, 0.0)  # of the first-order term
_LARGEST = 1e12  # λ
_CLIMBS = 8  # of λ in one direction at most
_REHEARSALS = 4  # the same, by rehearsals
_HALVINGS = 6  # of τ

Rehearse = Callable[[float | str], Sequence[StageRecord]]
"""The records of the first stages of a run, on a copy of the network, at a ridge."""

Judge = Callable[[Tensor], float]
"""The mean loss at weights (p,) on the samples held out."""


@final
@dataclass(frozen=True, kw_only=True)
class Followed:
    """Where a solution was followed to: `weights` (p,), the `step` τ, the held-out `loss`."""

    weights: Tensor
    step: float
    loss: float | None


@final
class Chooser:
    """Chooses λ, s and τ, and remembers what the stages have in common.

    Where there are several stages, λ is that of the best of some rehearsals: the first stages run
    at one λ, from the network as it is. λ climbs downhill by factors of 4. All stages but the last
    keep it, with s = 1. The rehearsal at the chosen λ is the beginning of the run, unless a step
    of it would have been shorter: rehearsals go the whole way, for a λ that needs short steps is no
    good one.

    In the last stage, or the only one, the candidates are the minima of Q on one support, the
    weights that cost most to remove (`chita.solvers.bso.costs`), since a solve for each would cost
    as much as many stages: one Gram serves all λ, one factorisation each, and every s after that
    costs one back-solve. λ climbs by factors of 4, then 2.

    τ is halved while the loss falls, and is zero, the mask alone, where no step lowers the loss.

    Args:
        pose: what was given, and what is to be chosen.
        judge: needed where something is; solvers may ask it, too.

    Fields: `trials` of the present stage; `shortened`, whether a shorter step would have been taken
    than a `Pose` that holds lets one.
    """

    def __init__(self, pose: Pose, judge: Judge | None) -> None:
        self._pose, self._judge = pose, judge
        self._ridge: float | None = None
        self._tolerance = _NOTHING
        self.trials: list[TrialRecord] = []
        self.shortened = False

    def rehearse(self, run: Rehearse) -> float | None:
        """Return λ for all stages but the last, None where those tried first cannot be solved."""
        self._tolerance = _NOTHING + _TOLERANCE
        losses: dict[float, float] = {}

        def tried(ridge: float | str) -> float | None:
            """The λ of a rehearsal, None where a system cannot be solved; its loss is noted."""
            try:
                records = run(ridge)
            except NumericalError:
                return None
            last = records[-1]
            used, scale, step = last.ridge or 0.0, last.first_order or 0.0, last.step or 0.0
            losses[used] = self._note(used, scale, step, last.held_out_loss, stages=len(records))
            return used

        def loss(ridge: float) -> float:
            if ridge not in losses:
                tried(ridge)
            return losses.setdefault(ridge, math.inf)

        firsts = (tried(f"{_FIRST_RIDGE * 16**i}x") for i in range(3))
        first = next((ridge for ridge in firsts if ridge is not None), None)
        if first is not None:
            self._ridge = self._climbed(loss, first, (_COARSE,), _REHEARSALS)
        return self._ridge

    def pose(
        self,
        w_bar: Tensor,
        curvature: Curvature,
        divisors: Tensor,
        constraint: Constraint,
        segments: tuple[slice, ...],
        left: float,
    ) -> tuple[LocalQuadratic, float]:
        """Return the problem of a stage, and s.

        Args:
            w_bar: the weights, (p,).
            curvature: H; one that is blind leaves nothing to choose.
            divisors: of the rows, in image space; the shift is s times these.
            constraint: the masks of the stage.
            segments: of the tensors.
            left: share of the stages that come after this one.
        """
        self._tolerance = _NOTHING + _TOLERANCE * left

        def problem(ridge: float, scale: float) -> LocalQuadratic:
            return LocalQuadratic(
                w_bar=w_bar,
                curvature=curvature,
                ridge=ridge,
                shift=scale * divisors,
                segments=segments,
                loss=self._judge,
            )

        if not isinstance(curvature, GradientGram):
            return problem(0.0, 0.0), 0.0
        ridge, scale = self._given(curvature, keep=left > 0)
        if ridge is None or scale is None:
            start = self._ridge or Ridge(value=_FIRST_RIDGE, relative=True).of(curvature)
            near = problem(start if ridge is None else ridge, 0.0)
            support = constraint.select(costs(near).sqrt()).nonzero().squeeze(1)
            candidates = _Candidates(self, near, divisors, support)
            tried = _SCALES[0] if scale is None else scale
            if ridge is None:
                ratios = (_COARSE, _FINE)
                ridge = self._climbed(lambda r: candidates.loss(r, tried), start, ratios, _CLIMBS)
            scale = self._best_scale(candidates, ridge, tried) if scale is None else scale
        if self._pose.hold:
            self._ridge = ridge
        return problem(ridge, scale), scale

    def solved(
        self, solver: Solver, problem: LocalQuadratic, constraint: Constraint, *, bound: bool
    ) -> tuple[LocalQuadratic, Solution]:
        """Return the solution, and the problem: at a larger λ where a chosen one leaves none.

        Raises `NumericalError` where no λ does, or it was given.
        """
        while True:
            try:
                return problem, solver.solve(problem, constraint, bound=bound)
            except NumericalError:
                raised = self._raised(problem)
                if raised is None:
                    raise
                problem = raised

    def _raised(self, problem: LocalQuadratic) -> LocalQuadratic | None:
        """The problem at a larger λ, None where λ was given or cannot be the cause."""
        ridge = problem.ridge * _COARSE
        if self._pose.ridge != AUTO or not 0 < ridge < _LARGEST:
            return None
        if self._ridge is not None:
            self._ridge = max(self._ridge, ridge)
        return replace(problem, ridge=ridge)

    def _given(self, curvature: GradientGram, *, keep: bool) -> tuple[float | None, float | None]:
        """λ and s where they are given, or `keep` says that this is not the last stage."""
        ridge = self._ridge if keep or self._pose.hold else None
        if self._pose.ridge != AUTO and ridge is None:
            ridge = Ridge.parse(self._pose.ridge).of(curvature)
        if self._pose.first_order != AUTO:
            return ridge, float(self._pose.first_order)
        return ridge, _SCALES[0] if keep else None

    def _climbed(
        self, loss: Callable[[float], float], ridge: float, ratios: Sequence[float], climbs: int
    ) -> float:
        """The λ from which no step by a ratio, up or down, lowers the loss."""
        for ratio in ratios:
            for step in (ratio, 1 / ratio):
                for _ in range(climbs):
                    if not self._better(loss(ridge * step), loss(ridge)):
                        break
                    ridge *= step
        return ridge

    def _best_scale(self, candidates: _Candidates, ridge: float, scale: float) -> float:
        for other in (s for s in _SCALES if s != scale):
            if self._better(candidates.loss(ridge, other), candidates.loss(ridge, scale)):
                scale = other
        return scale

    def _better(self, loss: float, than: float) -> bool:
        return loss < than - self._tolerance * abs(than)

    def follow(self, problem: LocalQuadratic, scale: float, solution: Solution) -> Followed:
        """Return how far to go from w̄ on the mask to a solution."""
        start = torch.where(solution.mask, problem.w_bar, 0)

        def at(step: float) -> Tensor:
            return solution.weights if step == 1 else start + step * (solution.weights - start)

        if self._pose.step != AUTO or self._judge is None:
            step = 1.0 if self._pose.step == AUTO else float(self._pose.step)
            weights = at(step)
            return Followed(
                weights=weights, step=step, loss=self._judge(weights) if self._judge else None
            )
        best, loss = 1.0, self.loss(at(1.0), problem.ridge, scale, 1.0)
        for step in (*(0.5**i for i in range(1, _HALVINGS + 1)), 0.0):
            shorter = self.loss(at(step), problem.ridge, scale, step)
            if self._better(shorter, loss):
                if self._pose.hold:
                    self.shortened = True
                    break
                best, loss = step, shorter
            elif step:
                break
        return Followed(weights=at(best), step=best, loss=loss)

    def loss(self, weights: Tensor, ridge: float, scale: float, step: float) -> float:
        """Judge weights, and note the trial."""
        assert self._judge is not None
        return self._note(ridge, scale, step, self._judge(weights))

    def _note(
        self, ridge: float, scale: float, step: float, loss: float | None, stages: int = 0
    ) -> float:
        known = loss is not None and math.isfinite(loss)
        self.trials.append(
            TrialRecord(
                ridge=ridge,
                first_order=scale,
                step=step,
                loss=loss if known else None,
                stages=stages,
            )
        )
        return loss if loss is not None and known else math.inf

    @property
    def state(self) -> dict[str, Any]:
        """What the next stage needs to know, as plain data."""
        return {"ridge": self._ridge}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the `state` of another."""
        self._ridge = state["ridge"]


@final
class _Candidates:
    """The minima of Q on one support, for any λ and s, and their held-out losses."""

    def __init__(
        self, chooser: Chooser, problem: LocalQuadratic, divisors: Tensor, support: Tensor
    ) -> None:
        self._chooser, self._problem = chooser, problem
        self._divisors, self._support = divisors, support
        self._factor = problem.curvature.factor(support)
        self._kept = problem.w_bar[support]
        self._residual = problem.residual(self._kept, support)
        self._losses: dict[tuple[float, float], float] = {}

    def loss(self, ridge: float, scale: float) -> float:
        """The held-out loss of the minimum; infinite where the system cannot be solved."""
        key = ridge, scale
        if key not in self._losses:
            self._losses[key] = self._judged(ridge, scale)
        return self._losses[key]

    def _judged(self, ridge: float, scale: float) -> float:
        try:
            step, _ = self._factor.solve(self._residual + scale * self._divisors, ridge)
        except NumericalError:
            return math.inf
        weights = torch.zeros_like(self._problem.w_bar)
        weights[self._support] = self._kept + step
        return self._chooser.loss(weights, ridge, scale, 1.0)
