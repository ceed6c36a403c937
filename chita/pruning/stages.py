"""The loop over stages: each prunes further, with fresh gradients at the weights it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, final

from torch import nn

from chita.collect.gradients import Collected
from chita.constraints import Budget, Constraint, Within
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.models.copying import copied
from chita.models.mode import at_state, state_of
from chita.models.prunable import read_weights, write_weights
from chita.progress import RUN_SECONDS_LEFT, Placed, track
from chita.pruning.calibration import StageSamples
from chita.pruning.config import AUTO
from chita.pruning.run import Run
from chita.pruning.schedule import Stages
from chita.pruning.stage_problem import History, StageProblem
from chita.pruning.state import PhaseTimer, RunState
from chita.pruning.tuning import Tuner
from chita.records import StageRecord, finite, known_values
from chita.training.batch_norm import batch_norms


@final
class StageLoop:
    """The stages of one run on one network, which is changed in place.

    Args:
        network: in eval mode.
        run: what was asked for; its own network has no part.
        budget: met by the last stage. A solver with a bound proves it there.
        begin: share of the weights that is removed already.
        drawn: stages before the first of these, whose samples are drawn already.
        hold: see `Tuner`.

    Fields: `network`; `tuner`, which chooses in all stages; `validation_loss`, None without
    validation samples.

    Raises:
        InputError: the budget cannot be met, or the data are too few.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        budget: Budget,
        *,
        begin: float = 0.0,
        drawn: int = 0,
        hold: bool = False,
    ) -> None:
        config = run.config
        self.network, self._run, self._begin, self._drawn = network, run, begin, drawn
        self._layout, self._solver = run.layout, config.solver
        self._progress, self._budget = config.progress, budget
        self._constraints = _constraints(budget, config.stages, run.layout, begin)
        self._quadratic, structure = config.settled
        has_norms = config.stages.bn_recalibrate and run.data is not None
        self._renews = has_norms and bool(batch_norms(network))
        collects = bool(config.solver.curvatures)
        self._calibration = None
        if collects or self._renews:
            self._calibration = run.calibration(network)
            for _ in range(drawn if collects else 0):
                self._calibration.draw()
        self.validation_loss = self._calibration and self._calibration.validation_loss(
            renewable=self._renews
        )
        self.tuner = Tuner(self._quadratic, structure, self.validation_loss, hold=hold)
        self._history = History(config.fisher.history)
        self._norm_samples: Examples | None = None
        if self._calibration and self._renews:
            self._norm_samples = self._calibration.norm_samples()

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self._constraints)

    @property
    def tunes_stages(self) -> bool:
        """Whether there are several stages, whose λ is chosen by validation samples."""
        tuned = self._quadratic.ridge == AUTO and self.validation_loss is not None
        return self.stages > 1 and bool(self._solver.curvatures) and tuned

    def copied(self, ridge: float | str, structure: str, place: str) -> StageLoop:
        """Return the same loop on a copy of the network, with λ and the structure held."""
        assert self._calibration is not None
        assert self.validation_loss is not None
        config, fisher = self._run.config, self._run.config.fisher
        # Numbers of samples that this loop settled are given, so that the copy draws the same ones.
        changed = replace(
            config,
            stages=replace(config.stages, bn_recalibrate=self._renews),
            solver=config.solver.without_bound,
            fisher=replace(fisher, samples=self._calibration.count, structure=structure),
            validation=len(self.validation_loss),
            quadratic=replace(config.quadratic, ridge=ridge),
            progress=Placed(self._progress, place),
        )
        return StageLoop(
            copied(self.network, "Pilot runs work on copies: give `ridge`, and none are made."),
            replace(self._run, config=changed),
            self._budget,
            begin=self._begin,
            drawn=self._drawn,
            hold=True,
        )

    def run(
        self,
        state: RunState,
        finished: Callable[[RunState], None] = lambda _: None,
        until: Callable[[RunState], bool] = lambda _: False,
    ) -> RunState:
        """Run the stages that `state` does not hold yet, all or `until` it is true after one.

        `finished` is called after each.
        """
        if state.choice is not None:
            self.tuner.restore(state.choice)
        recollecting: PhaseTimer | None = None  # runs while gradients are collected once more
        for stage, constraint in enumerate(self._constraints):
            given = None
            if self._calibration and self._solver.curvatures:
                given = self._calibration.draw()
            if stage < len(state.records):
                _check_same(given, state.records[stage])
                recollecting = self._recollected(state, stage, given, recollecting)
                continue
            timer, recollecting = recollecting or PhaseTimer(state.spent), None
            allowed = constraint
            if not self._run.config.stages.regrow:
                allowed = Within(constraint=constraint, mask=state.mask)
            self._run_stage(state, given, allowed, timer)
            self.report(state)
            finished(state)
            if until(state):
                break
        return state

    def report(self, state: RunState) -> None:
        """Report what the last stage came to.

        Each stage to come is expected to take the mean of those before it. The last one may take
        longer, so before it nothing is said of the time to come.
        """
        done, stages = len(state.records), self.stages
        values = known_values(state.records[-1], ("objective", "validation_loss"))
        spent = sum(sum(r.seconds.values()) - r.seconds.get("pilot", 0.0) for r in state.records)
        if stages > 1 and stages - done != 1:
            values[RUN_SECONDS_LEFT] = spent / done * (stages - done)
        if values:
            name = f"stage {done} of {stages}" if stages > 1 else "solve"
            self._progress.report(name, values)

    def _place(self, stage: int, *, again: bool = False) -> Placed:
        """Return the progress of a stage."""
        stages = self.stages
        place = "" if stages == 1 else f"stage {stage + 1} of {stages}: "
        return Placed(self._progress, f"{place}again: " if again else place)

    def _recollected(
        self, state: RunState, stage: int, given: Examples | None, timer: PhaseTimer | None
    ) -> PhaseTimer | None:
        """Collect the gradients of a finished stage once more, where the next one uses them.

        A run that goes on has not kept them: they are large. Return `timer`, or one that runs
        since, where they were collected.
        """
        done = len(state.records)
        if done == self.stages or not self._history.lacks(stage, done):
            return timer
        timer = timer or PhaseTimer()
        if given is not None:
            with at_state(self.network, state.began[stage]):
                _, collected = self._collected(given, stage, again=True)
            if collected is not None:
                self._history.add(stage, collected)
        return timer

    def _collected(
        self, given: Examples | None, stage: int, *, again: bool = False
    ) -> tuple[StageSamples | None, Collected | None]:
        if given is None or self._calibration is None:
            return None, None
        place, at = self._place(stage, again=again), self._drawn + stage
        collect = partial(self._calibration.collect, given, at, place)
        first = self._run.first if at == 0 else None  # of the network as it is before the run
        return collect() if first is None else first.get(collect)

    def _run_stage(
        self, state: RunState, given: Examples | None, constraint: Constraint, timer: PhaseTimer
    ) -> None:
        """Prune once more, in place: collect, tune, solve, step, write; add it to the state."""
        w_bar = read_weights(self.network, self._layout)
        began = state_of(self.network) if self._history.count else {}
        samples, collected = self._collected(given, len(state.records))
        timer.stop("collect")
        before = None
        if self.validation_loss:
            before = self.validation_loss(w_bar, self._place(len(state.records)))
        # Gradients of earlier stages help to solve; what comes of it is predicted by fresh ones.
        fresh = StageProblem.of(w_bar, collected, self._layout, constraint)
        whole = self._history.below(collected) if collected else None
        stage = StageProblem.of(w_bar, whole, self._layout, constraint)
        found = self._solve(state, stage, fresh, timer)
        state.trials, state.spent = (), {}  # the record of this stage has them
        if samples and collected:
            state.backends, state.loss = collected.backends, samples.loss.name
            state.samples = collected.rows.n
            state.weighting = "improved" if samples.improved else "empirical"
            if self._history.count:
                self._history.add(len(state.records), collected)
                state.remember(len(state.records), began, self._history.count)
        state.records.append(
            StageRecord(
                **found,
                loss_before=finite(before),
                data_hash=samples.digest if samples else None,
                seconds=timer.seconds,
                memory_mb=timer.memory_mb,
            )
        )
        state.choice = self.tuner.choice
        state.validation = len(self.validation_loss) if self.validation_loss else 0

    def _solve(
        self, state: RunState, stage: StageProblem, fresh: StageProblem, timer: PhaseTimer
    ) -> dict[str, Any]:
        """Solve a stage, write its weights and return its record's fields on the solution."""
        progress = self._place(len(state.records))
        remaining = 1 - (len(state.records) + 1) / self.stages
        problem, scale = self.tuner.tune(stage, remaining, self._solver, state.trials, progress)
        timer.stop("choose")
        # What a brief solve leaves undone is smaller than what the next stage's gradients change.
        solver = self._solver.brief if remaining else self._solver
        with track(progress, "solve and bound" if solver.bound else "solve", 0, "evaluations"):
            problem, solution = self.tuner.solve(solver, problem, stage.constraint)
        timer.stop("solve")
        taken = self.tuner.take_step(problem, scale, solution)
        # By the fresh gradients: those of earlier stages are of another network.
        predicted, increases = fresh.predicted(taken.weights)
        write_weights(self.network, self._layout, taken.weights)
        timer.stop("choose")
        if self._calibration and self._norm_samples:
            state.batch_norm = self._calibration.renew_batch_norms(
                self._norm_samples, self.validation_loss, progress
            )
            timer.stop("batch_norm")
        state.mask, state.lower_bound = solution.mask, solution.lower_bound
        nnz = int(solution.mask.sum())
        found = {
            "sparsity": 1 - nnz / self._layout.size,
            "nnz": nnz,
            "lower_bound": solution.lower_bound,
            "validation_loss": taken.loss,
            "status": solution.status,
            "iterations": solution.stats.iterations,
        }
        if stage.uninformed:
            return found
        full_step = taken.step_size == 1
        return {
            **found,
            "objective": solution.objective if full_step else problem.value(taken.weights),
            "ridge": problem.ridge,
            "first_order": scale,
            "step_size": taken.step_size,
            "structure": self.tuner.structure,
            "predicted": predicted,
            "increases": increases,
            "trace": tuple(map(finite, solution.stats.trace)),
            "trials": tuple(self.tuner.trials),
        }


def _constraints(budget: Budget, stages: Stages, layout: Layout, begin: float) -> list[Constraint]:
    """Return the constraint of every stage, the last one that of the budget."""
    final = budget.removed(layout)
    way = stages.sparsities(final, layout.size, begin)[:-1]
    # A sparsity that is the final one but for its last bit must not keep one weight fewer.
    capped = (max(0.0, min(sparsity, final - 1e-12)) for sparsity in way)
    return [*(budget.on_the_way(s, layout).bind(layout) for s in capped), budget.bind(layout)]


def _check_same(given: Examples | None, record: StageRecord) -> None:
    """Raise `InputError` when a stage that is done had other samples."""
    if (given.digest() if given else None) != record.data_hash:
        raise InputError(
            "The calibration data differ from those of the stages that are finished. Give the "
            "same data, or start over."
        )
