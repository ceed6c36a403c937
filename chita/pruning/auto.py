"""Ridge, first-order scale and step, chosen by the true loss on samples held out.

A lower Q is often a worse network, since Q is a model of the loss around w̄ that many weights leave
at once. λ bounds how far they go, s says how much of the way is training, and τ how much of it is
gone at all; which is right is asked of samples that made no row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import NumericalError
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.pruning.pose import AUTO, Pose, Ridge
from chita.records import TrialRecord
from chita.solvers import Solution
from chita.solvers.bso import costs

_FIRST_RIDGE = 0.5  # the first λ tried, relative to the mean curvature
_TOLERANCE = 0.02  # share of the loss that a change must gain, while all stages are left
_NOTHING = 0.002  # in the last
_COARSE, _FINE = 4.0, 2.0  # ratios of neighbouring λ, in the first stage and after
_SCALES = (1.0, 0.5, 0.0)  # of the first-order term
_CLIMBS = 8  # of λ in one direction at most
_HALVINGS = 6  # of τ

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
    """Chooses stage after stage, and remembers where the last stage ended.

    The candidates of a stage are the minima of Q on one support, the weights that cost most to
    remove (`chita.solvers.bso.costs`), since a solve for each would cost as much as many stages:
    one Gram serves all λ, one factorisation each, and every s after that costs one back-solve.

    In the first stage λ climbs downhill by factors of 4, then 2. Later stages try one neighbour
    of the last λ, up and down in turn, and one other s. τ is halved while the loss falls, and is
    zero, the mask alone, where no step lowers the loss.

    Args:
        pose: what was given, and what is to be chosen.
        judge: needed where something is.

    Field: `trials` of the present stage.
    """

    def __init__(self, pose: Pose, judge: Judge | None) -> None:
        self._pose, self._judge = pose, judge
        self._ridge: float | None = None
        self._home: float | None = None  # that of the first stage
        self._scale: float | None = None
        self._up = True
        self._other = 0
        self._tolerance, self._last = _NOTHING, True
        self.trials: list[TrialRecord] = []

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
        self.trials, self._last = [], left == 0
        self._tolerance = _NOTHING + _TOLERANCE * left

        def problem(ridge: float, scale: float) -> LocalQuadratic:
            return LocalQuadratic(
                w_bar=w_bar,
                curvature=curvature,
                ridge=ridge,
                shift=scale * divisors,
                segments=segments,
            )

        if not isinstance(curvature, GradientGram):
            return problem(0.0, 0.0), 0.0
        unit = Ridge(value=1.0, relative=True).of(curvature)
        asked = self._pose.ridge
        ridge = None if asked == AUTO else Ridge.parse(asked).of(curvature)
        scale = None if self._pose.first_order == AUTO else float(self._pose.first_order)
        if ridge is None or scale is None:
            near = problem(self._ridge or _FIRST_RIDGE * unit, 0.0)
            support = constraint.select(costs(near)).nonzero().squeeze(1)
            candidates = _Candidates(self, near, divisors, support)
            last = _SCALES[0] if self._scale is None else self._scale
            tried = last if scale is None else scale
            ridge = self._climbed(candidates, unit, tried) if ridge is None else ridge
            scale = self._best_scale(candidates, ridge, tried) if scale is None else scale
        self._ridge, self._scale = ridge, scale
        self._home = self._home or self._ridge
        return problem(ridge, scale), scale

    def _climbed(self, candidates: _Candidates, unit: float, scale: float) -> float:
        """The best λ near that of the last stage, or anywhere where there is no other stage."""

        def loss(ridge: float) -> float:
            return candidates.loss(ridge, scale)

        ridge = self._ridge or _FIRST_RIDGE * unit
        if self._ridge is not None and self._home is not None and not self._last:
            back = self._home
            if ridge != back:
                nearer = min(ridge * _FINE, back) if ridge < back else max(ridge / _FINE, back)
                if not self._better(loss(ridge), loss(nearer)):
                    return nearer
                self._up = ridge > back
            other = ridge * _FINE if self._up else ridge / _FINE
            moved = self._better(loss(other), loss(ridge))
            self._up = self._up == moved
            return other if moved else ridge
        for ratio in (_COARSE, 1 / _COARSE, _FINE, 1 / _FINE):
            for _ in range(_CLIMBS):
                if not self._better(loss(ridge * ratio), loss(ridge)):
                    break
                ridge *= ratio
        return ridge

    def _best_scale(self, candidates: _Candidates, ridge: float, scale: float) -> float:
        """The best s of all where there is no other stage, then the last or the next other one."""
        others = [s for s in _SCALES if s != scale]
        if self._scale is not None and not self._last:
            self._other = (self._other + 1) % len(others)
            others = [others[self._other]]
        for other in others:
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
                best, loss = step, shorter
            elif step:
                break
        return Followed(weights=at(best), step=best, loss=loss)

    def loss(self, weights: Tensor, ridge: float, scale: float, step: float) -> float:
        """Judge weights, and note the trial."""
        assert self._judge is not None
        loss = self._judge(weights)
        self.trials.append(
            TrialRecord(
                ridge=ridge,
                first_order=scale,
                step=step,
                loss=loss if math.isfinite(loss) else None,
            )
        )
        return loss if math.isfinite(loss) else math.inf

    @property
    def state(self) -> dict[str, Any]:
        """What the next stage needs to know, as plain data."""
        return {
            "ridge": self._ridge,
            "home": self._home,
            "scale": self._scale,
            "up": self._up,
            "other": self._other,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the `state` of another."""
        self._ridge, self._home, self._scale = state["ridge"], state["home"], state["scale"]
        self._up, self._other = state["up"], state["other"]


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
