"""Prune in stages: in each, fresh rows at the present weights, a new problem, a solve."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from chita.collect.gradients import Collected
from chita.constraints import Budget, Constraint, Within
from chita.data.batches import Data
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.models.mode import State, at_state, state_of
from chita.models.prunable import read_weights, write_weights
from chita.progress import Placed, Progress, track
from chita.pruning.auto import Chooser
from chita.pruning.clock import Clock
from chita.pruning.config import AUTO
from chita.pruning.earlier import Earlier
from chita.pruning.journal import outcome, place
from chita.pruning.judge import Judge
from chita.pruning.pose import Pose
from chita.pruning.posed import Posed
from chita.pruning.samples import Drawn, Sampling, Source
from chita.pruning.schedule import NORM_SAMPLES, Stages
from chita.pruning.so_far import Staged
from chita.pruning.statistics import renew
from chita.records import StageRecord, TrialRecord, finite
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

_REHEARSED = 3  # stages of a rehearsal at most, and at most about a third of all


@final
class StagedRun:
    """The stages of one run on one network, which is changed in place.

    Args:
        network: in eval mode.
        layout: the weights that compete.
        data: calibration samples, None where the method needs none.
        budget: met by the last stage.
        stages: how many, how sparsity grows, and whether batch norms are estimated after each.
        solver: of every stage; one with a bound proves it in the last stage.
        sampling: which samples make rows, and how many stages go on using them.
        pose: λ, s and τ, or that they are chosen.
        progress: told of every step.
        begin: share of the weights that is removed already.
        drawn: stages before the first of these, whose samples are drawn already.

    Raises:
        InputError: the budget cannot be met, or the data are too few.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        data: Data | None,
        *,
        budget: Budget,
        stages: Stages,
        solver: Solver,
        sampling: Sampling,
        pose: Pose,
        progress: Progress,
        begin: float = 0.0,
        drawn: int = 0,
    ) -> None:
        self._network, self._layout = network, layout
        self._solver, self._sampling = solver, sampling
        self._progress, self._history = progress, sampling.fisher.history
        self._constraints = _constraints(budget, stages, layout, begin)
        self._begin, self._drawn = begin, drawn
        self._data, self._budget, self._stages = data, budget, stages
        self._pose = pose = pose.settled(solver)
        self._device = network.get_parameter(layout.names[0]).device
        self._normed = stages.bn_recalibrate and data is not None and bool(batch_norms(network))
        judged = bool(solver.curvatures) and (pose.judged or solver.judges)
        self._source = None
        if solver.curvatures or self._normed:
            self._source = Source(sampling, data, judged=judged)
            for _ in range(drawn if solver.curvatures else 0):
                self._source.next()
        held = self._source.judges(network, self._device) if self._source else None
        self._judge: Judge | None = None
        if held is not None:
            self._judge = Judge(network, layout, held, sampling, normed=self._normed)
        self._chooser = Chooser(pose, self._judge)
        self._earlier = Earlier(self._history)
        self._normal: Examples | None = None
        if self._source and self._normed:
            self._normal = self._source.some(NORM_SAMPLES)

    def run(
        self,
        staged: Staged | None = None,
        finished: Callable[[Staged], None] = lambda _: None,
        until: Callable[[Staged], bool] = lambda _: False,
    ) -> Staged:
        """Run the stages that `staged` does not hold yet, all or `until` it is true after one.

        `finished` is told of each, and of those that were rehearsed at once.
        """
        if staged is None:
            staged = Staged(
                mask=torch.ones(self._layout.size, dtype=torch.bool, device=self._device)
            )
        if staged.choice is not None:
            self._chooser.restore(staged.choice)
        held: Clock | None = None  # runs while rows are collected again for the stage to come
        for stage, constraint in enumerate(self._constraints):
            given = self._source.next() if self._source and self._solver.curvatures else None
            if stage < len(staged.records):
                _check_same(given, staged.records[stage])
                held = self._recalled(staged, stage, given, held)
                continue
            clock, held, self._chooser.trials = held or Clock(), None, []
            if not stage and given is not None and self._rehearses:
                ahead = self._rehearsed(staged.mask)
                clock.stop("rehearse")
                if ahead is not None:
                    staged = _preceded(ahead, self._chooser.trials, clock)
                    held = self._recalled(staged, stage, given, held)
                    self._tell(staged)
                    finished(staged)
                    continue
            allowed = constraint
            if not self._stages.regrow:
                allowed = Within(constraint=constraint, mask=staged.mask)
            self._run_stage(staged, given, allowed, clock)
            self._tell(staged)
            finished(staged)
            if until(staged):
                break
        return staged

    def _recalled(
        self, staged: Staged, stage: int, given: Examples | None, held: Clock | None
    ) -> Clock | None:
        """Collect the rows of a stage that is done once more, where the next one holds them.

        A run that goes on, or takes over a rehearsal, has not kept them: they are large. Return
        `held`, or a clock that runs since, where they were collected.
        """
        done = len(staged.records)
        if done == len(self._constraints) or not self._earlier.lacks(stage, done):
            return held
        clock = held or Clock()
        again = Placed(self._progress, f"{place(stage, len(self._constraints))}again: ")
        if given is not None:
            with at_state(self._network, staged.began[stage]):
                _, collected = self._collected(given, again)
            if collected is not None:
                self._earlier.add(stage, collected)
        return clock

    def _tell(self, staged: Staged) -> None:
        name, values = outcome(staged.records, len(self._constraints))
        if values:
            self._progress.tell(name, values)

    @property
    def _rehearses(self) -> bool:
        return len(self._constraints) > 1 and self._judge is not None and self._pose.ridge == AUTO

    def _rehearsed(self, mask: Tensor) -> Staged | None:
        """Choose λ and blocks by running the first stages, from a mask, on copies of the network.

        Return those at the chosen, which the network takes over; None where the run would have
        gone another way, with a larger λ or a shorter step.
        """
        trials = self._chooser.trials
        ends: dict[tuple[float, str], tuple[StagedRun, Staged]] = {}
        stages = min(_REHEARSED, max(1, round(len(self._constraints) / 3)))

        def rehearse(
            ridge: float | str, blocks: str, hopeless: Callable[[Sequence[StageRecord]], bool]
        ) -> list[StageRecord]:
            trial = self._copied(ridge, blocks, f"rehearsal {len(trials) + 1}: ")
            end = trial.run(
                Staged(mask=mask),
                until=lambda s: len(s.records) == stages or hopeless(s.records),
            )
            trial._earlier.forget()
            ends[end.records[-1].ridge or 0.0, blocks] = trial, end
            return end.records

        chosen = self._chooser.rehearse(rehearse)
        if chosen is None or ends[chosen][0]._chooser.shortened:
            return None
        trial, staged = ends[chosen]
        self._network.load_state_dict(trial._network.state_dict())
        return staged

    def _copied(self, ridge: float | str, blocks: str, place: str) -> StagedRun:
        """The same run at a given λ and blocks, on a copy of the network."""
        assert self._source is not None
        assert self._judge is not None
        fisher = replace(self._sampling.fisher, samples=self._source.rows)
        return StagedRun(
            copy.deepcopy(self._network),
            self._layout,
            self._data,
            budget=self._budget,
            stages=replace(self._stages, bn_recalibrate=self._normed),
            solver=self._solver.without_bound,
            sampling=replace(self._sampling, fisher=fisher, validation=len(self._judge)),
            pose=replace(self._pose.at(ridge=ridge, structure=blocks), hold=True),
            progress=Placed(self._progress, place),
            begin=self._begin,
            drawn=self._drawn,
        )

    def _run_stage(
        self,
        staged: Staged,
        given: Examples | None,
        constraint: Constraint,
        clock: Clock,
    ) -> None:
        left = 1 - (len(staged.records) + 1) / len(self._constraints)
        progress = Placed(self._progress, place(len(staged.records), len(self._constraints)))
        w_bar = read_weights(self._network, self._layout)
        began = state_of(self._network) if self._history else {}
        drawn, collected = self._collected(given, progress)
        clock.stop("collect")
        before = self._judge(w_bar) if self._judge else None
        fresh = self._posed(w_bar, collected, constraint)
        below = self._earlier.below(collected) if collected else None
        posed = self._posed(w_bar, below, constraint)
        with track(progress, "choose", 1, "problem"):
            problem, scale = self._chooser.pose(posed, left, self._solver)
            progress.advance(1)
        clock.stop("choose")
        solver = self._solver.brief if left else self._solver
        with track(progress, "solve and bound" if solver.bound else "solve", 1, "problem"):
            problem, solution = self._chooser.solved(solver, problem, constraint)
            clock.stop("solve")
            followed = self._chooser.follow(problem, scale, solution)
            progress.advance(1)
        predicted, increases = fresh.predicted(followed.weights)
        write_weights(self._network, self._layout, followed.weights)
        clock.stop("choose")
        if self._normal is not None:
            staged.batch_norm = renew(
                self._network, self._normal, self._sampling, self._judge, self._device, progress
            )
            clock.stop("batch_norm")
        nnz = int(solution.mask.sum())
        known = collected is not None
        value = solution.objective if followed.step == 1 else problem.value(followed.weights)
        staged.records.append(
            StageRecord(
                sparsity=1 - nnz / self._layout.size,
                nnz=nnz,
                objective=value if known else None,
                ridge=problem.ridge if known else None,
                first_order=scale if known else None,
                step=followed.step if known else None,
                fisher_blocks=self._chooser.blocks if known else None,
                lower_bound=solution.lower_bound,
                loss_before=finite(before),
                held_out_loss=followed.loss,
                predicted=predicted,
                increases=increases,
                trials=tuple(self._chooser.trials),
                status=solution.status,
                iterations=solution.stats.iterations,
                trace=tuple(map(finite, solution.stats.trace)) if known else (),
                data_hash=drawn.digest if drawn else None,
                seconds=clock.seconds,
                memory_mb=clock.memory_mb,
            )
        )
        staged.mask, staged.choice = solution.mask, self._chooser.state
        staged.held_out = len(self._judge) if self._judge else 0
        staged.lower_bound = solution.lower_bound
        if drawn and collected:
            self._note_rows(staged, drawn, collected, began)

    def _note_rows(self, staged: Staged, drawn: Drawn, collected: Collected, began: State) -> None:
        """Say what a stage's rows were, and hold them where the next ones ask for that."""
        staged.ways, staged.loss, staged.rows = collected.ways, drawn.loss.name, collected.rows.n
        staged.fisher = "improved" if drawn.improved else "empirical"
        if self._history:
            stage = len(staged.records) - 1
            self._earlier.add(stage, collected)
            staged.hold(stage, began, self._history)

    def _collected(
        self, given: Examples | None, progress: Progress
    ) -> tuple[Drawn | None, Collected | None]:
        if given is None:
            return None, None
        assert self._source is not None
        return self._source.collected(given, self._network, self._layout, self._device, progress)

    def _posed(self, w_bar: Tensor, collected: Collected | None, constraint: Constraint) -> Posed:
        return Posed(
            w_bar,
            None if collected is None else collected.rows,
            w_bar.new_zeros(0) if collected is None else collected.divisors,
            self._layout,
            constraint,
        )


def _constraints(budget: Budget, stages: Stages, layout: Layout, begin: float) -> list[Constraint]:
    """The constraint of every stage, the last one that of the budget."""
    final = budget.removed(layout)
    way = stages.sparsities(final, layout.size, begin)[:-1]
    # A sparsity that is the final one but for its last bit must not keep one weight fewer.
    capped = (max(0.0, min(sparsity, final - 1e-12)) for sparsity in way)
    return [*(budget.on_the_way(s, layout).bind(layout) for s in capped), budget.bind(layout)]


def _preceded(staged: Staged, trials: Sequence[TrialRecord], clock: Clock) -> Staged:
    """The stages of a rehearsal, the first with all trials and the time of the other rehearsals."""
    first = staged.records[0]
    own = sum(sum(record.seconds.values()) for record in staged.records)
    seconds = {"rehearse": max(0.0, clock.seconds["rehearse"] - own), **first.seconds}
    told = {"trials": (*trials, *first.trials), "seconds": seconds}
    return replace(staged, records=[first.model_copy(update=told), *staged.records[1:]])


def _check_same(given: Examples | None, record: StageRecord) -> None:
    """Raise `InputError` when a stage that is done had other samples."""
    if (given.digest() if given else None) != record.data_hash:
        raise InputError(
            "The calibration data differ from those of the stages that are finished. Give the "
            "same data, or begin anew."
        )
