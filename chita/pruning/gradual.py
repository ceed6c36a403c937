"""Prune in events with training between them: zeros come gradually, and kept weights adapt."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.data.sampler import Sampler
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.logger import Logger
from chita.losses import make_loss
from chita.models.mode import state_kept, state_of
from chita.progress import RUN_SECONDS_LEFT, Placed, Progress
from chita.pruning.calibration import Calibration, check_samples
from chita.pruning.layer_stage import LayerStage
from chita.pruning.layers import check_layers, layers_of
from chita.pruning.level_costs import with_levels
from chita.pruning.pilot import run_loop
from chita.pruning.result import PruneResult
from chita.pruning.run import Run
from chita.pruning.stages import StageLoop
from chita.pruning.state import CheckpointFile, RunLog, RunState
from chita.pruning.tuning import is_tuned
from chita.records import EpochRecord, TrainingRecord
from chita.training.fine_tune import Diverged, FineTuner
from chita.training.recipe import Training

Event = Callable[[Budget, RunState, Progress], RunState]
"""Prunes the network in place to a budget, from the state of the events before; returns its own."""


@final
@dataclass(kw_only=True)
class GradualState:
    """What a run has reached.

    Fields: `events`, the state of all of them; `epochs`, of all that were trained; `stopped`, why
    training ended early, None where it did not.
    """

    events: RunState
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return all but the mask as plain data."""
        return {
            "events": self.events.plain(),
            "epochs": [epoch.model_dump(mode="json") for epoch in self.epochs],
        }

    @classmethod
    def of(cls, mask: Tensor, plain: dict[str, Any]) -> GradualState:
        """Return the state that a mask (p,) and plain data make."""
        epochs = [EpochRecord.model_validate(epoch) for epoch in plain["epochs"]]
        return cls(events=RunState.of(mask, plain["events"]), epochs=epochs)


@final
class GradualRun:
    """Pruning events and epochs of one network, which is changed in place.

    Args:
        network: in eval mode.
        run: what was asked for.
        training: the recipe.
        sampler: of samples that are trained on.
        budget: met by the last event.
        event: prunes, see `Event`.
        check: raises `InputError` on the budget of an event that cannot be met.

    Raises:
        InputError: the recipe does not fit the network or its loss.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        training: Training,
        sampler: Sampler,
        *,
        budget: Budget,
        event: Event,
        check: Callable[[Budget], object],
    ) -> None:
        self._network, self._layout, self._training = network, run.layout, training
        config, layout = run.config, run.layout
        self._event, self._measure, self._progress = event, config.measure, config.progress
        shares = training.sparsities(budget.removed(layout))
        self._budgets = [*(budget.on_the_way(share, layout) for share in shares[:-1]), budget]
        for each in self._budgets:
            check(each)  # before any work
        self._fine_tuner = FineTuner(
            network,
            sampler,
            training,
            make_loss(config.loss, sampler.some(1).parts[0]),
            seed=config.seed,
            teacher=copy.deepcopy(network) if training.distillation else None,
            progress=config.progress,
        )

    def run(
        self,
        begun: GradualState | None,
        optimizer: dict[str, Tensor],
        finished: Callable[[GradualState, dict[str, Tensor]], None] = lambda *_: None,
    ) -> GradualState:
        """Run the epochs that `begun` does not hold yet, each after its event.

        `finished` is called after each epoch with the optimizer's state, which `optimizer` is.

        Raises `NumericalError` when training diverges before the last event; after it the run
        ends with the network as it was before the epoch.
        """
        device = self._network.get_parameter(self._layout.names[0]).device
        everything = torch.ones(self._layout.size, dtype=torch.bool, device=device)
        run = begun or GradualState(events=RunState(mask=everything))
        if run.epochs:
            self._hold(run.events.mask)
            self._fine_tuner.restore(optimizer)
        first, whole = len(run.epochs), time.perf_counter()
        for epoch in range(first, self._training.epochs):
            event, after = self._training.event_before(epoch), None
            if event is not None:
                self._prune(run, event)
                after = self._measured()
            good = state_of(self._network)
            began = time.perf_counter()
            try:
                loss = self._fine_tuner.epoch(epoch, max((e.loss for e in run.epochs), default=0.0))
            except Diverged as error:
                self._network.load_state_dict(good, strict=False)
                run.stopped = self._stopped(epoch, error)
                return run
            spent = time.perf_counter() - began
            run.epochs.append(
                EpochRecord(
                    epoch=epoch + 1,
                    sparsity=1 - int(run.events.mask.sum()) / self._layout.size,
                    loss=loss,
                    rate=self._training.rate_at(epoch + 1 - 1e-9),
                    pruned_metric=after,
                    metric=self._measured(),
                    seconds=spent,
                )
            )
            self._report(run, (time.perf_counter() - whole) / (epoch + 1 - first))
            finished(run, self._fine_tuner.tensors())
        return run

    def _report(self, run: GradualState, seconds: float) -> None:
        """Report the last epoch; each took so many seconds, with events and measuring."""
        last, epochs = run.epochs[-1], self._training.epochs
        measured = {} if last.metric is None else {"metric": last.metric}
        left = seconds * (epochs - last.epoch)
        values = {"loss": last.loss, **measured, RUN_SECONDS_LEFT: left}
        self._progress.report(f"epoch {last.epoch} of {epochs}", values)

    def _prune(self, run: GradualState, event: int) -> None:
        """One event, whose records follow those of the events before."""
        place = Placed(self._progress, f"event {event + 1} of {len(self._budgets)}: ")
        found = self._event(self._budgets[event], run.events, place)
        found.records = [*run.events.records, *found.records]
        run.events = found
        self._hold(found.mask)

    def _hold(self, mask: Tensor) -> None:
        self._fine_tuner.hold(self._layout.unflatten(mask))

    def _measured(self) -> float | None:
        with torch.no_grad():
            return None if self._measure is None else self._measure(self._network)

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


@torch.inference_mode(False)
def run_gradual(run: Run, training: Training) -> PruneResult:
    """Prune in events and train between them; see `GradualRun`.

    Raises as `chita.prune` does.
    """
    network, config, searching, validated = run.worked_on(), run.config, 0.0, False
    checkpoint, budget = run.checkpoint_file(network), run.budget
    with run.at_work(network, None):
        check: Callable[[Budget], object]
        if run.layerwise:
            event = _layer_event(network, run)
            check = partial(check_layers, layers=layers_of(network, run.layout))
        else:
            budget, searching = with_levels(run, network)
            event = _stages_event(network, run, last=budget)
            check = partial(_check_bound, layout=run.layout)
            solver, structure = config.solver, config.sampling.fisher.structure
            tuned = is_tuned(config.quadratic, structure) or solver.judges
            validated = bool(solver.curvatures) and tuned
        calibration = Calibration(config.sampling, run.data, validated=validated)
        events = GradualRun(
            network,
            run,
            training,
            calibration.sampler,
            budget=budget,
            event=event,
            check=check,
        )
        done = _resumed(events, checkpoint, config.logger)
    return run.result(
        network,
        done.events,
        budget=budget,
        searching=searching,
        trained=TrainingRecord(epochs=tuple(done.epochs), stopped=done.stopped),
    )


def _resumed(events: GradualRun, checkpoint: CheckpointFile, logger: Logger | None) -> GradualState:
    """Run, from a checkpoint on; log and save every epoch, with the event before it."""
    saved = checkpoint.load()
    begun = None if saved is None else GradualState.of(saved.mask, saved.done)
    log = RunLog(logger)
    if begun is not None:
        log = RunLog(logger, stages=len(begun.events.records), epochs=len(begun.epochs))

    def finished(now: GradualState, others: dict[str, Tensor]) -> None:
        log.log(stages=now.events.records, epochs=now.epochs)
        checkpoint.save(now.events.mask, now.plain(), others)

    done = events.run(begun, {} if saved is None else dict(saved.others), finished)
    log.log(stages=done.events.records)  # an event whose epoch diverged
    checkpoint.remove()
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
            begin=1 - float(before.mask.double().mean()),
            drawn=len(before.records),
        )
        return run_loop(loop, RunState(mask=before.mask))

    return event


def _layer_event(network: nn.Module, run: Run) -> Event:
    """Return the event that prunes one layer after another, each time on other samples."""

    def event(budget: Budget, before: RunState, progress: Progress) -> RunState:
        calibration = Calibration(run.config.sampling, run.data, validated=False)
        given = [calibration.draw() for _ in range(len(before.records) + 1)][-1]
        stage = LayerStage(network, run, calibration, given, progress=progress)
        with state_kept(network):
            layers = stage.begin(budget)
            layers.run()
        found = stage.end(layers)
        found.mask = found.mask.to(before.mask.device)
        return found

    return event


def _check_bound(budget: Budget, layout: Layout) -> None:
    """Raise `InputError` when a budget cannot be met."""
    budget.bind(layout)


def check_training(run: Run) -> None:
    """Raise `InputError` on what does not go with training."""
    if not isinstance(run.config.stages.schedule, str):
        raise InputError(
            "`schedule` lists sparsities, but with training the events have theirs (`initial` and "
            "the number of `events`). Name a schedule for the stages inside an event."
        )
    check_samples(run.config.sampling, run.data)
    if run.layerwise and not run.config.stages.regrow:
        raise InputError("regrow=False has no part in pruning layer by layer. Leave it out.")
