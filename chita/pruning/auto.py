"""Ridge, first-order scale, step and blocks, chosen by the true loss on samples held out.

A lower Q is often a worse network, since Q is a model of the loss around w̄ that many weights leave
at once. λ bounds how far they go, s says how much of the way is training, τ how much of it is gone
at all, and blocks which entries of H are believed; what is right is asked of samples that made no
row.
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
from chita.problem import BlockGram, Curvature, LocalQuadratic
from chita.pruning.config import AUTO, FULL, OUTPUTS
from chita.pruning.pose import Pose
from chita.pruning.posed import Judge, Posed
from chita.pruning.ridge import Ridge
from chita.records import StageRecord, TrialRecord, finite
from chita.solvers import Solution, Solver

_FIRST_RIDGE = 0.5  # the first λ tried, relative to the mean curvature
_TOLERANCE = 0.02  # share of the loss that a change must gain, while all stages are left
_NOTHING = 0.002  # in the last
_COARSE, _FINE = 4.0, 2.0  # ratios of neighbouring λ
_SCALES = (1.0, 0.5, 0.0)  # of the first-order term
_LARGEST = 1e12  # λ
_CLIMBS = 8  # of λ in one direction at most
_REHEARSALS = 4  # the same, by rehearsals
_HOPELESS = 0.05  # share by which a rehearsal is behind the best after as many stages
_HALVINGS = 6  # of τ

Rehearse = Callable[
    [float | str, str, Callable[[Sequence[StageRecord]], bool]], Sequence[StageRecord]
]
"""The records of the first stages of a run, on a copy of the network, at a ridge and blocks.

It ends early where the callable says of the records so far that they are hopeless.
"""


@final
@dataclass(frozen=True, kw_only=True)
class Followed:
    """Where a solution was followed to: `weights` (p,), the `step` τ, the held-out `loss`."""

    weights: Tensor
    step: float
    loss: float | None


@final
class Chooser:
    """Chooses λ, s, τ and blocks, and remembers what the stages have in common.

    Where there are several stages, λ is that of the best of some rehearsals: the first stages run
    at one λ, from the network as it is. λ climbs downhill by factors of 4. A rehearsal that falls
    behind the best by 5 % is not finished. All stages but the last keep its λ, with s = 1. The best
    rehearsal is the beginning of the run, unless a step of it would have been shorter: rehearsals
    go the whole way, for a λ that needs short steps is no good one.

    In the last stage, or the only one, the candidates are the minima of Q on one support, the
    weights that cost most to remove (`chita.solvers.bso.costs`), since a solve for each would cost
    as much as many stages: one Gram serves all λ, one factorisation each, and every s after that
    costs one back-solve. λ climbs by factors of 4, then 2.

    Blocks (`BlockGram`) are chosen once for all stages. In rehearsals they are tried at the first
    λ; where they lower the loss, they stay, and λ climbs from there. Without rehearsals, λ and s
    are chosen for either, and the solver's results compared, in its brief form.

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
        self._blocks = None if pose.structure == AUTO else pose.structure
        self._tolerance = _NOTHING
        self.trials: list[TrialRecord] = []
        self.shortened = False

    def rehearse(self, run: Rehearse) -> tuple[float, str] | None:
        """Return λ for all stages but the last, and the blocks for all.

        None where the λ tried first cannot be solved.
        """
        self._tolerance = _NOTHING + _TOLERANCE
        losses: dict[tuple[float, str], float] = {}
        path: list[float] = []  # the losses of the best rehearsal, stage by stage

        def hopeless(records: Sequence[StageRecord]) -> bool:
            if len(records) > len(path):
                return False
            best = path[len(records) - 1]
            return not _known(records[-1].held_out_loss) <= best + _HOPELESS * abs(best)

        def tried(ridge: float | str, blocks: str) -> float | None:
            """The λ of a rehearsal, None where a system cannot be solved; its loss is noted."""
            try:
                records = run(ridge, blocks, hopeless)
            except NumericalError:
                return None
            last = records[-1]
            used, scale, step = last.ridge or 0.0, last.first_order or 0.0, last.step or 0.0
            loss = self._note(used, scale, step, last.held_out_loss, blocks, stages=len(records))
            losses[used, blocks] = loss if len(records) >= len(path) else math.inf
            if losses[used, blocks] <= min(losses.values()):
                path[:] = [_known(record.held_out_loss) for record in records]
            return used

        def loss(ridge: float, blocks: str) -> float:
            if (ridge, blocks) not in losses:
                tried(ridge, blocks)
            return losses.setdefault((ridge, blocks), math.inf)

        blocks = self.blocks
        firsts = (tried(f"{_FIRST_RIDGE * 16**i}x", blocks) for i in range(3))
        ridge = next((ridge for ridge in firsts if ridge is not None), None)
        if ridge is None:
            return None
        if self._blocks is None and self._better(loss(ridge, OUTPUTS), loss(ridge, blocks)):
            blocks = OUTPUTS
        ridge = self._climbed(lambda r: loss(r, blocks), ridge, (_COARSE,), _REHEARSALS)
        self._ridge, self._blocks = ridge, blocks
        return ridge, blocks

    def pose(self, posed: Posed, left: float, solver: Solver) -> tuple[LocalQuadratic, float]:
        """Return the problem of a stage, and s.

        Args:
            posed: what is known of the stage.
            left: share of the stages that come after this one.
            solver: of the stage, by whose results blocks are chosen where they are not yet.
        """
        self._tolerance = _NOTHING + _TOLERANCE * left
        if posed.blind:
            return posed.problem(FULL, 0.0, 0.0, self._judge), 0.0
        ridge, scale = self._chosen(posed, self.blocks, left)
        if self._blocks is None:
            whole = self._tried(posed, FULL, ridge, scale, solver)
            rival = self._chosen(posed, OUTPUTS, left, ridge)
            found = self._tried(posed, OUTPUTS, *rival, solver)
            self._blocks = FULL
            if self._better(found, whole):
                self._blocks, (ridge, scale) = OUTPUTS, rival
        if self._pose.hold:
            self._ridge = ridge
        return posed.problem(self.blocks, ridge, scale, self._judge), scale

    def _chosen(
        self, posed: Posed, blocks: str, left: float, start: float | None = None
    ) -> tuple[float, float]:
        """λ and s for a stage with the Fisher in some blocks; λ climbs from `start`."""
        whole = posed.fisher(FULL)
        ridge, scale = self._given(whole, keep=left > 0)
        if ridge is not None and scale is not None:
            return ridge, scale
        first = ridge if ridge is not None else start or self._ridge
        if first is None:
            first = Ridge(value=_FIRST_RIDGE, relative=True).of(whole)
        candidates = _Candidates(self, posed, posed.support(first), blocks)
        tried = _SCALES[0] if scale is None else scale
        if ridge is None:
            ridge = self._climbed(
                lambda r: candidates.loss(r, tried), first, (_COARSE, _FINE), _CLIMBS
            )
        return ridge, self._best_scale(candidates, ridge, tried) if scale is None else scale

    def _tried(
        self, posed: Posed, blocks: str, ridge: float, scale: float, solver: Solver
    ) -> float:
        """The held-out loss of what a solver finds at less effort, infinite if it finds nothing."""
        try:
            problem = posed.problem(blocks, ridge, scale, self._judge)
            solution = solver.brief.solve(problem, posed.constraint)
        except NumericalError:
            return math.inf
        loss = self.follow(problem, scale, solution).loss
        return math.inf if loss is None else loss

    def solved(
        self, solver: Solver, problem: LocalQuadratic, constraint: Constraint
    ) -> tuple[LocalQuadratic, Solution]:
        """Return the solution, and the problem: at a larger λ where a chosen one leaves none.

        Raises `NumericalError` where no λ does, or it was given.
        """
        while True:
            try:
                return problem, solver.solve(problem, constraint)
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

    def _given(self, curvature: Curvature, *, keep: bool) -> tuple[float | None, float | None]:
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

        if self._pose.step_size != AUTO or self._judge is None:
            step = 1.0 if self._pose.step_size == AUTO else float(self._pose.step_size)
            weights = at(step)
            return Followed(
                weights=weights, step=step, loss=self._judge(weights) if self._judge else None
            )
        blocks = OUTPUTS if isinstance(problem.curvature, BlockGram) else FULL
        best, loss = 1.0, self.loss(at(1.0), problem.ridge, scale, 1.0, blocks)
        for step in (*(0.5**i for i in range(1, _HALVINGS + 1)), 0.0):
            shorter = self.loss(at(step), problem.ridge, scale, step, blocks)
            if self._better(shorter, loss):
                if self._pose.hold:
                    self.shortened = True
                    break
                best, loss = step, shorter
            elif step:
                break
        return Followed(weights=at(best), step=best, loss=loss)

    def loss(self, weights: Tensor, ridge: float, scale: float, step: float, blocks: str) -> float:
        """Judge weights, and note the trial."""
        assert self._judge is not None
        return self._note(ridge, scale, step, self._judge(weights), blocks)

    def _note(
        self,
        ridge: float,
        scale: float,
        step: float,
        loss: float | None,
        blocks: str,
        *,
        stages: int = 0,
    ) -> float:
        known = _known(loss)
        self.trials.append(
            TrialRecord(
                ridge=ridge,
                first_order=scale,
                step=step,
                fisher_blocks=blocks,
                loss=finite(known),
                stages=stages,
            )
        )
        return known

    @property
    def blocks(self) -> str:
        """The Fisher's, whole before they are chosen."""
        return self._blocks or FULL

    @property
    def state(self) -> dict[str, Any]:
        """What the next stage needs to know, as plain data."""
        return {"ridge": self._ridge, "fisher_blocks": self._blocks}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the `state` of another."""
        self._ridge, self._blocks = state["ridge"], state["fisher_blocks"]


def _known(loss: float | None) -> float:
    """A loss, infinite where there is none."""
    return loss if loss is not None and math.isfinite(loss) else math.inf


@final
class _Candidates:
    """The minima of Q on one support, for any λ and s, and their held-out losses."""

    def __init__(self, chooser: Chooser, posed: Posed, support: Tensor, blocks: str) -> None:
        self._chooser, self._posed, self._support, self.blocks = chooser, posed, support, blocks
        problem = posed.problem(blocks, 0.0, 0.0)
        self._factor = problem.curvature.factor(support)
        self._kept = problem.w_bar[support]
        self._residual = problem.residual(self._kept, support)
        self._steps: dict[float, tuple[Tensor, Tensor]] = {}
        self._losses: dict[tuple[float, float], float] = {}

    def loss(self, ridge: float, scale: float) -> float:
        """The held-out loss of the minimum; infinite where the system cannot be solved."""
        key = ridge, scale
        if key not in self._losses:
            self._losses[key] = self._judged(ridge, scale)
        return self._losses[key]

    def _judged(self, ridge: float, scale: float) -> float:
        try:
            if ridge not in self._steps:
                self._steps[ridge] = (
                    self._factor.solve(self._residual, ridge)[0],
                    self._posed.step(self.blocks, ridge, self._support, self._factor),
                )
        except NumericalError:
            return math.inf
        repaired, trained = self._steps[ridge]
        weights = torch.zeros_like(self._posed.w_bar)
        weights[self._support] = self._kept + repaired + scale * trained
        return self._chooser.loss(weights, ridge, scale, 1.0, self.blocks)
