"""Prune in events with training between them: zeros come gradually, and what stays adapts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.data.pool import Pool
from chita.errors import NumericalError
from chita.layout import Layout
from chita.losses import LossLike, make_loss
from chita.models.mode import state_of
from chita.progress import RUN_SECONDS_LEFT, Placed, Progress
from chita.pruning.so_far import Staged
from chita.records import EpochRecord
from chita.training.fine_tune import Diverged, FineTuner
from chita.training.recipe import Training

Event = Callable[[Budget, Staged, Progress], Staged]
"""Prunes the network, in place, to a budget, given what the events before came to, and returns what
this one came to."""


@final
@dataclass(kw_only=True)
class Gradual:
    """What a run came to so far.

    Fields: `staged`, of all events; `epochs`, of all that were trained; `stopped`, why training
    ended early, None where it did not.
    """

    staged: Staged
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return all but the mask as plain data."""
        return {
            "staged": self.staged.plain(),
            "epochs": [epoch.model_dump(mode="json") for epoch in self.epochs],
        }

    @classmethod
    def of(cls, mask: Tensor, plain: dict[str, Any]) -> Gradual:
        """Return what a mask (p,) and plain data make."""
        epochs = [EpochRecord.model_validate(epoch) for epoch in plain["epochs"]]
        return cls(staged=Staged.of(mask, plain["staged"]), epochs=epochs)


@final
class GradualRun:
    """Pruning events and epochs of one network, which is changed in place.

    Args:
        network: in eval mode.
        layout: the weights that compete.
        pool: samples that are trained on.
        budget: met by the last event.
        training: the recipe.
        loss: of network and samples.
        seed: of the order of samples and all else that is drawn in training.
        event: prunes, see `Event`.
        check: raises `InputError` on the budget of an event that cannot be met.
        measure: told of the network after every event and epoch, for the record.
        progress: told of every step.

    Raises:
        InputError: the recipe does not fit the network or its loss.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        pool: Pool,
        *,
        budget: Budget,
        training: Training,
        loss: LossLike,
        seed: int,
        event: Event,
        check: Callable[[Budget], object],
        measure: Callable[[nn.Module], float] | None,
        progress: Progress,
    ) -> None:
        self._network, self._layout, self._training = network, layout, training
        self._event, self._measure, self._progress = event, measure, progress
        shares = training.sparsities(budget.removed(layout))
        self._budgets = [*(budget.on_the_way(share, layout) for share in shares[:-1]), budget]
        for each in self._budgets:
            check(each)  # before any work
        self._tuner = FineTuner(
            network,
            pool,
            training,
            make_loss(loss, pool.some(1).parts[0]),
            seed=seed,
            teacher=copy.deepcopy(network) if training.distillation else None,
            progress=progress,
        )

    def run(
        self,
        begun: Gradual | None,
        optimizer: dict[str, Tensor],
        finished: Callable[[Gradual, dict[str, Tensor]], None] = lambda *_: None,
    ) -> Gradual:
        """Run the epochs that `begun` does not hold yet, each after its event.

        `finished` is told of each epoch, with the optimizer's state, which `optimizer` gives back.

        Raises `NumericalError` when training diverges before the last event; after it the run
        ends with the network as it was before the epoch.
        """
        device = self._network.get_parameter(self._layout.names[0]).device
        everything = torch.ones(self._layout.size, dtype=torch.bool, device=device)
        run = begun or Gradual(staged=Staged(mask=everything))
        if run.epochs:
            self._hold(run.staged.mask)
            self._tuner.restore(optimizer)
        first, whole = len(run.epochs), time.perf_counter()
        for epoch in range(first, self._training.epochs):
            event, after = self._training.event_before(epoch), None
            if event is not None:
                self._prune(run, event)
                after = self._measured()
            good = state_of(self._network)
            began = time.perf_counter()
            try:
                loss = self._tuner.epoch(epoch, max((e.loss for e in run.epochs), default=0.0))
            except Diverged as error:
                self._network.load_state_dict(good, strict=False)
                run.stopped = self._stopped(epoch, error)
                return run
            spent = time.perf_counter() - began
            run.epochs.append(
                EpochRecord(
                    epoch=epoch + 1,
                    sparsity=1 - int(run.staged.mask.sum()) / self._layout.size,
                    loss=loss,
                    rate=self._training.rate_at(epoch + 1 - 1e-9),
                    pruned_metric=after,
                    metric=self._measured(),
                    seconds=spent,
                )
            )
            self._tell(run, (time.perf_counter() - whole) / (epoch + 1 - first))
            finished(run, self._tuner.tensors())
        return run

    def _tell(self, run: Gradual, seconds: float) -> None:
        """Tell of the last epoch; each took so many seconds, with events and measuring."""
        last, epochs = run.epochs[-1], self._training.epochs
        measured = {} if last.metric is None else {"metric": last.metric}
        left = seconds * (epochs - last.epoch)
        values = {"loss": last.loss, **measured, RUN_SECONDS_LEFT: left}
        self._progress.tell(f"epoch {last.epoch} of {epochs}", values)

    def _prune(self, run: Gradual, event: int) -> None:
        """One event, whose records follow those of the events before."""
        place = Placed(self._progress, f"event {event + 1} of {len(self._budgets)}: ")
        found = self._event(self._budgets[event], run.staged, place)
        found.records = [*run.staged.records, *found.records]
        run.staged = found
        self._hold(found.mask)

    def _hold(self, mask: Tensor) -> None:
        self._tuner.hold(self._layout.unflatten(mask))

    def _measured(self) -> float | None:
        with torch.no_grad():
            return None if self._measure is None else self._measure(self._network)

    def _stopped(self, epoch: int, error: Diverged) -> str:
        """Why training ended.

        Raises `NumericalError` where the budget is not met yet.
        """
        if epoch < (self._training.events - 1) * self._training.every:
            raise NumericalError(
                f"Training diverged before the last pruning event ({error}). Lower rate, raise "
                "warm_up or set clip in [training]."
            )
        return f"diverged in {error}; the network is that of before this epoch"
