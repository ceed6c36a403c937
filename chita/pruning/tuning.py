"""Ridge, first-order scale, step size and structure, chosen by the loss on validation samples.

A lower Q is often a worse network, since Q is a model of the loss around w̄ that many weights leave
at once. λ bounds how far they go, s says how much of the way is training, τ how much of it is gone
at all, and structure which entries of H are believed; samples that made no gradient decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError, NumericalError
from chita.problem import BlockGram, Curvature, LocalQuadratic
from chita.progress import Progress, Silent, track
from chita.pruning.config import AUTO, FULL, OUTPUTS, Quadratic, Ridge
from chita.pruning.stage_problem import LossAt, StageProblem
from chita.records import TrialRecord, finite
from chita.solvers import Solution, Solver
from chita.solvers.named import solver_name

FIRST_RIDGE = 0.5
"""The first λ tried, relative to the mean curvature."""

COARSE, FINE = 4.0, 2.0
"""Ratios of neighbouring λ."""

_TOLERANCE = 0.02  # share of the loss that a change must gain, while all stages are to come
_NOTHING = 0.002  # in the last
_SCALES = (1.0, 0.5, 0.0)  # of the first-order term
_LARGEST = 1e12  # λ
_CLIMBS = 8  # of λ in one direction at most
_HALVINGS = 6  # of τ
_PLAIN: dict[str, Any] = {"ridge": "0.1x", "first_order": 0.0, "step_size": 1.0}


def settle(quadratic: Quadratic, structure: str, solver: Solver) -> tuple[Quadratic, str]:
    """Return the same with plain values where this solver leaves nothing to tune.

    Raises `InputError` where a structure is asked of a solver that does not take it.
    """
    if not solver.takes(BlockGram) and structure == OUTPUTS:
        raise InputError(
            f"`structure` is {structure!r}, but {solver_name(solver)} takes the Fisher in "
            "full; leave it out, or use chita, bso, iht or cd. block-bso and woodfisher have "
            "blocks of their own: their option block_size."
        )
    tuned = solver.tunable
    plain = {
        name: value
        for name, value in _PLAIN.items()
        if getattr(quadratic, name) == AUTO and name not in tuned
    }
    free = "structure" in tuned and quadratic.ridge == AUTO and solver.takes(BlockGram)
    settled = structure if free or structure != AUTO else FULL
    return replace(quadratic, **plain), settled


def is_tuned(quadratic: Quadratic, structure: str) -> bool:
    """Return whether something is chosen by validation samples."""
    return AUTO in (quadratic.ridge, quadratic.first_order, quadratic.step_size, structure)


def tolerance(remaining: float) -> float:
    """Return the share of a loss that a change must gain, by the share of stages to come.

    What one stage gains, the next ones may take back; what the last one gains stays.
    """
    return _NOTHING + _TOLERANCE * remaining


def is_better(loss: float, than: float, tolerance: float) -> bool:
    """Return whether a loss is lower than another by more than the tolerance."""
    return loss < than - tolerance * abs(than)


def climb(
    loss: Callable[[float], float],
    ridge: float,
    ratios: Sequence[float],
    climbs: int,
    tolerance: float,
    advance: Callable[[], object] = lambda: None,
) -> float:
    """Return the λ from which no step by a ratio, up or down, lowers the loss.

    `advance` is called after each direction of each ratio.
    """
    for ratio in ratios:
        for step in (ratio, 1 / ratio):
            for _ in range(climbs):
                if not is_better(loss(ridge * step), loss(ridge), tolerance):
                    break
                ridge *= step
            advance()
    return ridge


def known(loss: float | None) -> float:
    """Return a loss, infinite where it is not known or not finite."""
    return loss if loss is not None and math.isfinite(loss) else math.inf


@final
@dataclass(frozen=True, kw_only=True)
class StepTaken:
    """How far a solution was followed: to `weights` (p,), by `step_size` τ, with this `loss`."""

    weights: Tensor
    step_size: float
    loss: float | None


@final
class Tuner:
    """Chooses λ, s, τ and structure, and remembers what the stages have in common.

    All stages but the last keep the λ that pilot runs chose (`chita.pruning.pilot`), with s = 1. In
    the last stage, or the only one, the candidates are the minima of Q on one support, the weights
    that cost most to remove (`chita.solvers.bso.costs`), since a solve for each would cost as much
    as many stages: one Gram serves all λ, one factorisation each, and every s after that costs one
    back-solve. λ climbs by factors of 4, then 2.

    The structure is chosen once for all stages: by pilot runs, or else λ and s are chosen for
    either structure, and the solver's results compared, in its brief form.

    τ is halved while the loss falls, and is zero, the mask only, where no step lowers the loss.

    Args:
        quadratic: what was given, and what is to be chosen.
        structure: of the Fisher, or that it is to be chosen.
        loss: on validation samples; needed where something is chosen, and solvers may ask for it.
        hold: a ridge that is relative is relative to the curvature of the first stage, in all of
            them, and a step size that is chosen is 1.

    Fields: `trials` of the present stage; `shortened`, whether a shorter step would have been taken
    than `hold` allows.
    """

    def __init__(
        self,
        quadratic: Quadratic,
        structure: str,
        loss: LossAt | None,
        *,
        hold: bool = False,
    ) -> None:
        self._quadratic, self._loss, self._hold = quadratic, loss, hold
        self._ridge: float | None = None
        self._structure = None if structure == AUTO else structure
        self._tolerance = tolerance(0.0)
        self.trials: list[TrialRecord] = []
        self.shortened = False
        self._progress: Progress = Silent()

    @property
    def structure(self) -> str:
        """The Fisher's structure, full before it is chosen."""
        return self._structure or FULL

    @property
    def choice(self) -> tuple[float | None, str | None]:
        """λ and structure for the next stages, None where they are to be chosen."""
        return self._ridge, self._structure

    def restore(self, choice: tuple[float | None, str | None]) -> None:
        """Take over the `choice` of another."""
        self._ridge, self._structure = choice

    def tune(
        self,
        stage: StageProblem,
        remaining: float,
        solver: Solver,
        trials: Iterable[TrialRecord] = (),
        progress: Progress | None = None,
    ) -> tuple[LocalQuadratic, float]:
        """Return the problem of a stage, and s.

        Args:
            stage: what is known of it.
            remaining: share of the stages that come after this one.
            solver: of the stage, by whose results the structure is chosen where it is not yet.
            trials: made for this stage before it, which come first in its record.
            progress: gets the steps of every choice.
        """
        self._tolerance, self.trials = tolerance(remaining), list(trials)
        self._progress = progress or Silent()
        if stage.uninformed:
            return stage.quadratic(FULL, 0.0, 0.0, self._loss), 0.0
        ridge, scale = self._chosen(stage, self.structure, remaining)
        if self._structure is None:
            full = self._solver_loss(stage, FULL, ridge, scale, solver)
            rival = self._chosen(stage, OUTPUTS, remaining, ridge)
            outputs = self._solver_loss(stage, OUTPUTS, *rival, solver)
            self._structure = FULL
            if self._better(outputs, full):
                self._structure, (ridge, scale) = OUTPUTS, rival
        if self._hold:
            self._ridge = ridge
        return stage.quadratic(self.structure, ridge, scale, self._loss), scale

    def solve(
        self, solver: Solver, problem: LocalQuadratic, constraint: Constraint
    ) -> tuple[LocalQuadratic, Solution]:
        """Return the solution, and the problem: at a larger λ where a chosen one leaves none.

        The running task advances with every evaluation of Q.

        Raises `NumericalError` where no λ does, or it was given.
        """
        while True:
            try:
                return problem, self._solved(solver, problem, constraint)
            except NumericalError:
                raised = self._raised(problem)
                if raised is None:
                    raise
                problem = raised

    def _solved(self, solver: Solver, problem: LocalQuadratic, constraint: Constraint) -> Solution:
        shown = replace(problem, evaluated=self._advance)
        return solver.solve(shown, constraint)

    def take_step(self, problem: LocalQuadratic, scale: float, solution: Solution) -> StepTaken:
        """Return how far to go from w̄ on the mask to a solution."""
        start = torch.where(solution.mask, problem.w_bar, 0)

        def at(step: float) -> Tensor:
            return solution.weights if step == 1 else start + step * (solution.weights - start)

        if self._quadratic.step_size != AUTO or self._loss is None:
            given = self._quadratic.step_size
            step = 1.0 if given == AUTO else float(given)
            weights = at(step)
            loss = self._loss(weights) if self._loss else None
            return StepTaken(weights=weights, step_size=step, loss=loss)
        structure = OUTPUTS if isinstance(problem.curvature, BlockGram) else FULL

        def tried(step: float) -> float:
            self._advance()
            return self.loss(at(step), problem.ridge, scale, step, structure)

        with track(self._progress, "choose step size", 0, "trials"):
            best, least = 1.0, tried(1.0)
            for step in (*(0.5**i for i in range(1, _HALVINGS + 1)), 0.0):
                shorter = tried(step)
                if self._better(shorter, least):
                    if self._hold:
                        self.shortened = True
                        break
                    best, least = step, shorter
                elif step:
                    break  # the loss rises on both sides; the mask only (τ = 0) is always tried
        return StepTaken(weights=at(best), step_size=best, loss=least)

    def loss(
        self, weights: Tensor, ridge: float, scale: float, step: float, structure: str
    ) -> float:
        """Return the validation loss of weights, infinite if not finite, and note the trial."""
        assert self._loss is not None
        found = known(self._loss(weights))
        self.trials.append(
            TrialRecord(
                ridge=ridge,
                first_order=scale,
                step_size=step,
                structure=structure,
                loss=finite(found),
            )
        )
        return found

    def _chosen(
        self, stage: StageProblem, structure: str, remaining: float, start: float | None = None
    ) -> tuple[float, float]:
        """Return λ and s for a stage with this structure; λ climbs from `start`."""
        full = stage.fisher(FULL)
        ridge, scale = self._given(full, keep=remaining > 0)
        if ridge is not None and scale is not None:
            return ridge, scale
        first = ridge if ridge is not None else start or self._ridge
        if first is None:
            first = Ridge(value=FIRST_RIDGE, relative=True).of(full)
        tried = _SCALES[0] if scale is None else scale
        steps = 1 + 4 * (ridge is None) + 2 * (scale is None)
        with track(self._progress, f"choose by {structure}", steps, "steps"):
            candidates = _Candidates(self, stage, stage.support(first), structure)
            self._advance()
            if ridge is None:
                ridge = climb(
                    lambda r: candidates.loss(r, tried),
                    first,
                    (COARSE, FINE),
                    _CLIMBS,
                    self._tolerance,
                    self._advance,
                )
            if scale is None:
                scale = self._best_scale(candidates, ridge, tried)
        return ridge, scale

    def _advance(self) -> None:
        self._progress.advance(1)

    def _given(self, curvature: Curvature, *, keep: bool) -> tuple[float | None, float | None]:
        """Return λ and s where they are given, or `keep` says that this is not the last stage."""
        ridge = self._ridge if keep or self._hold else None
        if self._quadratic.ridge != AUTO and ridge is None:
            ridge = Ridge.parse(self._quadratic.ridge).of(curvature)
        if self._quadratic.first_order != AUTO:
            return ridge, float(self._quadratic.first_order)
        return ridge, _SCALES[0] if keep else None

    def _best_scale(self, candidates: _Candidates, ridge: float, scale: float) -> float:
        for other in (s for s in _SCALES if s != scale):
            if self._better(candidates.loss(ridge, other), candidates.loss(ridge, scale)):
                scale = other
            self._advance()
        return scale

    def _solver_loss(
        self, stage: StageProblem, structure: str, ridge: float, scale: float, solver: Solver
    ) -> float:
        """Return the loss of what a solver finds at less effort, infinite if it finds nothing."""
        try:
            problem = stage.quadratic(structure, ridge, scale, self._loss)
            with track(self._progress, f"try {structure}", 0, "evaluations"):
                solution = self._solved(solver.brief, problem, stage.constraint)
        except NumericalError:
            return math.inf
        loss = self.take_step(problem, scale, solution).loss
        return math.inf if loss is None else loss

    def _raised(self, problem: LocalQuadratic) -> LocalQuadratic | None:
        """Return the problem at a larger λ, None where λ was given or cannot be the cause."""
        ridge = problem.ridge * COARSE
        if self._quadratic.ridge != AUTO or not 0 < ridge < _LARGEST:
            return None
        if self._ridge is not None:
            self._ridge = max(self._ridge, ridge)
        return replace(problem, ridge=ridge)

    def _better(self, loss: float, than: float) -> bool:
        return is_better(loss, than, self._tolerance)


@final
class _Candidates:
    """The minima of Q on one support, for any λ and s, and their validation losses."""

    def __init__(self, tuner: Tuner, stage: StageProblem, support: Tensor, structure: str) -> None:
        self._tuner, self._stage, self._support = tuner, stage, support
        self._structure = structure
        problem = stage.quadratic(structure, 0.0, 0.0)
        # One factor of the support serves every λ: only its small system is factorised again.
        self._factor = problem.curvature.factor(support)
        self._start = problem.w_bar[support]
        self._residual = problem.residual(self._start, support)
        self._steps: dict[float, tuple[Tensor, Tensor]] = {}
        self._losses: dict[tuple[float, float], float] = {}

    def loss(self, ridge: float, scale: float) -> float:
        """Return the loss of the minimum; infinite where the system cannot be solved."""
        key = ridge, scale
        if key not in self._losses:
            self._losses[key] = self._measured(ridge, scale)
        return self._losses[key]

    def _measured(self, ridge: float, scale: float) -> float:
        try:
            if ridge not in self._steps:
                self._steps[ridge] = (
                    # what repairs the removal, and what the first-order term adds for s = 1
                    self._factor.solve(self._residual, ridge)[0],
                    self._stage.first_order_step(
                        self._structure, ridge, self._support, self._factor
                    ),
                )
        except NumericalError:
            return math.inf
        repair, training = self._steps[ridge]
        weights = torch.zeros_like(self._stage.w_bar)
        # The minimum is linear in the shift, so every s is a sum of the same two steps.
        weights[self._support] = self._start + repair + scale * training
        return self._tuner.loss(weights, ridge, scale, 1.0, self._structure)
