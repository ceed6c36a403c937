"""Prune in events with training between them: zeros come gradually, and kept weights adapt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.errors import InputError, NumericalError
from chita.logger import Logger
from chita.losses import make_loss
from chita.models.copying import copied
from chita.models.mode import restore, state_kept, state_of
from chita.progress import RUN_SECONDS_LEFT, Placed, Progress
from chita.pruning.calibration import check_samples
from chita.pruning.layer_matrices import check_layers, layers_of
from chita.pruning.layer_stage import LayerStage
from chita.pruning.level_costs import with_levels
from chita.pruning.pilot import run_loop
from chita.pruning.result import PruneResult
from chita.pruning.run import Run
from chita.pruning.stages import StageLoop
from chita.pruning.state import CheckpointFile, RunLog, RunState, Saved
from chita.records import EpochRecord
from chita.training.fine_tune import Diverged, FineTuner
from chita.training.recipe import Training

Event = Callable[[Budget, RunState, Progress], RunState]
"""Prunes the network in place to a budget, from the state of the events before; returns its own."""


_TEACHER = "Distillation takes a copy as the teacher: leave `distillation` out."


@final
class GradualRun:
    """Pruning events and epochs of one network, which is changed in place.

    Args:
        network: in eval mode.
        run: what was asked for.
        training: the recipe.
        fine_tuner: trains for an epoch.
        budget: met by the last event; it may have levels that `run` has not.
        event: prunes, see `Event`.

    Field: `measuring`, seconds in which the network was measured so far.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        training: Training,
        fine_tuner: FineTuner,
        *,
        budget: Budget,
        event: Event,
    ) -> None:
        self._network, self._layout, self._training = network, run.layout, training
        config = run.config
        if not (config.measure is None or callable(config.measure)):
            raise InputError(
                f"`measure` is {config.measure!r}; give a function (network) -> number."
            )
        self._event, self._measure, self._progress = event, config.measure, config.progress
        self._budgets = _budgets(run, training, budget)
        self._fine_tuner, self.measuring = fine_tuner, 0.0

    def run(
        self,
        state: RunState,
        optimizer: dict[str, Tensor],
        finished: Callable[[RunState, dict[str, Tensor]], None] = lambda *_: None,
    ) -> RunState:
        """Run the epochs that `state` does not hold yet, each after its event.

        `finished` is called after each epoch with the optimizer's state, which `optimizer` is.

        Raises `NumericalError` when training diverges before the last event; after it the run
        ends with the network as it was before the epoch.
        """
        if state.epochs:
            self._hold(state.mask)
            self._fine_tuner.restore(optimizer)
        first, whole = len(state.epochs), time.perf_counter()
        for epoch in range(first, self._training.epochs):
            event, after = self._training.event_before(epoch), None
            if event is not None:
                state = self._pruned(state, event)
                after = self._measured()
            good = state_of(self._network)
            began = time.perf_counter()
            try:
                highest = max((e.loss for e in state.epochs), default=0.0)
                loss = self._fine_tuner.epoch(epoch, highest)
            except Diverged as error:
                restore(self._network, good)
                state.stopped = self._stopped(epoch, error)
                return state
            spent = time.perf_counter() - began
            state.epochs.append(
                EpochRecord(
                    epoch=epoch + 1,
                    sparsity=1 - int(state.mask.sum()) / self._layout.size,
                    loss=loss,
                    rate=self._training.rate_at(epoch + 1 - 1e-9),
                    pruned_metric=after,
                    metric=self._measured(),
                    seconds=spent,
                )
            )
            self._report(state.epochs[-1], (time.perf_counter() - whole) / (epoch + 1 - first))
            finished(state, self._fine_tuner.tensors())
        return state

    def _report(self, last: EpochRecord, seconds: float) -> None:
        """Report the last epoch; each took so many seconds, with events and measuring."""
        epochs = self._training.epochs
        measured = {} if last.metric is None else {"metric": last.metric}
        left = seconds * (epochs - last.epoch)
        values = {"loss": last.loss, **measured, RUN_SECONDS_LEFT: left}
        self._progress.report(f"epoch {last.epoch} of {epochs}", values)

    def _pruned(self, state: RunState, event: int) -> RunState:
        """Run one event; its records follow those of the events before."""
        place = Placed(self._progress, f"event {event + 1} of {len(self._budgets)}: ")
        found = self._event(self._budgets[event], state, place)
        found.records = [*state.records, *found.records]
        found.epochs = state.epochs
        self._hold(found.mask)
        return found

    def _hold(self, mask: Tensor) -> None:
        self._fine_tuner.hold(self._layout.unflatten(mask))

    def _measured(self) -> float | None:
        if self._measure is None:
            return None
        began = time.perf_counter()
        with torch.no_grad():
            found = self._measure(self._network)
        self.measuring += time.perf_counter() - began
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: of a tensor of several
            given = "None" if found is None else f"a {type(found).__name__}"
            raise InputError(f"`measure` gave {given}; it must return a number.") from None

    def _stopped(self, epoch: int, error: Diverged) -> str:
        """Return why training ended.

        Raises `NumericalError` where the budget is not met yet.
        """
        if epoch < (self._training.events - 1) * self._training.every:
            raise NumericalError(
                f"Training diverged before the last pruning event ({error}). Lower rate, raise "
                "warm_up or set clip in [training]."
            )
        return f"diverged in {error}; the network is as before this epoch"


def run_gradual(run: Run, training: Training) -> PruneResult:
    """Prune in events and train between them; see `GradualRun`.

    Raises as `chita.prune` does.
    """
    network, config, searching = run.worked_on(), run.config, 0.0
    checkpoint, budget = run.checkpoint_file(network), run.budget
    with run.at_work(network):
        sampler = run.calibration(network).sampler
        fine_tuner = FineTuner(
            network,
            sampler,
            training,
            make_loss(config.loss, sampler.some(1).parts[0]),
            seed=config.seed,
            teacher=copied(network, _TEACHER) if training.distillation else None,
            progress=config.progress,
        )
        if run.layerwise:
            event = _layer_event(network, run)
        else:
            budget, searching = with_levels(run, network)
            event = _stages_event(network, run, last=budget)
        events = GradualRun(network, run, training, fine_tuner, budget=budget, event=event)
        begun = RunState.begin(network, run.layout, budget, regrow=config.stages.regrow)
        done = _resumed(events, begun, checkpoint, config.logger)
    seconds = {
        "search": searching,
        "evaluate": events.measuring,
        "checkpoint": checkpoint.seconds,
    }
    return run.result(network, done, budget=budget, seconds=seconds)


def _resumed(
    events: GradualRun, begin: RunState, checkpoint: CheckpointFile, logger: Logger | None
) -> RunState:
    """Run, from a checkpoint on; log and save every epoch, with the event before it."""
    saved = checkpoint.load()
    begun = begin if saved is None else RunState.of(saved.mask, saved.done)
    log = RunLog(logger, stages=len(begun.records), epochs=len(begun.epochs))

    def finished(now: RunState, optimizer: dict[str, Tensor]) -> None:
        log.log(stages=now.records, epochs=now.epochs)
        checkpoint.save(lambda: Saved(mask=now.mask, done=now.plain(), others=optimizer))

    done = events.run(begun, {} if saved is None else saved.others, finished)
    log.log(stages=done.records)  # an event whose epoch diverged
    return done


def _stages_event(network: nn.Module, run: Run, *, last: Budget) -> Event:
    """Return the event that prunes by a model of the loss, in as many stages as asked for."""

    def event(budget: Budget, before: RunState, progress: Progress) -> RunState:
        solver = run.config.solver if budget is last else run.config.solver.without_bound
        config = replace(run.config, solver=solver, progress=progress)
        loop = StageLoop(
            network,
            replace(run, config=config),
            budget,
            begin=before.sparsity,
            drawn=len(before.records),
        )
        return run_loop(loop, RunState(mask=before.mask))

    return event


def _layer_event(network: nn.Module, run: Run) -> Event:
    """Return the event that prunes one layer after another, each time on other samples."""

    def event(budget: Budget, before: RunState, progress: Progress) -> RunState:
        calibration = run.calibration(network)
        given = [calibration.draw() for _ in range(len(before.records) + 1)][-1]
        stage = LayerStage(network, run, calibration, given, progress=progress)
        with state_kept(network):
            layers = stage.begin(budget)
            layers.run()
        found = stage.end(layers)
        found.mask = found.mask.to(before.mask.device)
        return found

    return event


def _budgets(run: Run, training: Training, budget: Budget) -> list[Budget]:
    """Return the budget of every event, the last one that of the run.

    Raises `InputError` where one cannot be met.
    """
    layout = run.layout
    shares = training.sparsities(budget.removed(layout))
    budgets = [*(budget.on_the_way(share, layout) for share in shares[:-1]), budget]
    for each in budgets:
        if run.layerwise:
            check_layers(each, layers_of(run.network, layout))
        else:
            each.bind(layout)
    return budgets


def check_training(run: Run, training: Training) -> None:
    """Raise `InputError` on what does not go with training."""
    if not isinstance(run.config.stages.schedule, str):
        raise InputError(
            "`schedule` lists sparsities, but with training the events have theirs (`initial` and "
            "the number of `events`). Name a schedule for the stages inside an event."
        )
    check_samples(run.config.sampling, run.data)
    _budgets(run, training, run.budget)
