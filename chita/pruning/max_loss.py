"""The largest sparsity at which a bearable loss of quality is not exceeded."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import final

import torch
from torch import nn

from chita.constraints import MaxLoss
from chita.data.batches import Indexed, batches_of
from chita.data.examples import size_of
from chita.errors import InputError
from chita.losses import Measure
from chita.metrics import is_accuracy
from chita.models.copying import copied
from chita.models.mode import restore, tensors_of
from chita.progress import Placed
from chita.pruning.config import VALIDATION
from chita.pruning.result import PruneResult
from chita.pruning.run import FirstGradients, PruneConfig, Run
from chita.pruning.state import Saved
from chita.records import LossTrial, RunRecord, SearchRecord, finite
from chita.training.passes import run_over

_GROUPS = 50  # of validation samples, whose measures tell the standard error
_LEAST = 1000  # validation samples, where there are as many
_CLOSE = 1.05  # ratio of the densities between which the search ends
_SPARSEST = 0.005  # share of the weights that is kept, at which the search ends
_LARGEST = 700.0  # of an exponent whose power is a number


def check_max_loss(config: PruneConfig) -> None:
    """Raise `InputError` for options with which no sparsity is searched for."""
    if not isinstance(config.budget, MaxLoss):
        return
    if config.training is not None:
        raise InputError("`max_loss` takes no `training`: it would train for every sparsity tried.")
    if config.validation == 0:
        raise InputError("`validation` is 0, but `max_loss` is measured on validation samples.")


def run_max_loss(run: Run, prune: Callable[[Run], PruneResult]) -> PruneResult:
    """Prune to several sparsities and return the sparsest result that loses little enough.

    The density, the share of weights that is kept, is halved while the loss is borne, and then
    bisected on a logarithmic scale until neighbours differ by 5 %. Each trial is a whole run from
    the dense network by the same samples; the gradients of the first stage are collected once.

    The loss is the change of the measure that `chita.evaluate` has for these targets, from dense to
    pruned, on the validation samples, of which there are 1,000 at least where the data have them:
    points of an accuracy, per cent of any other. Its standard error is that of the mean change over
    50 groups of samples. It is not added to the limit.

    A `checkpoint` keeps the trials and the best result after each.

    Args:
        run: its budget is a `MaxLoss`.
        prune: what prunes to a sparsity.

    Raises `InputError` where there are no validation samples, and as `chita.prune` does.
    """
    assert isinstance(run.budget, MaxLoss)
    config = replace(run.config, validation=_validation(run), inplace=False, checkpoint=None)
    trial = replace(run, config=config, first=FirstGradients())
    search = _Search(run, trial, run.budget, prune)
    best = search.best()
    if not run.config.inplace:
        return best
    restore(run.network, tensors_of(best.model))
    return replace(best, model=run.network)


@final
class _Search:
    """The trials of a search, their results kept in the checkpoint of the run.

    Args:
        run: as asked for.
        trial: what is pruned in each trial, but for its budget.
        budget: of `run`.
        prune: runs a trial.
    """

    def __init__(
        self, run: Run, trial: Run, budget: MaxLoss, prune: Callable[[Run], PruneResult]
    ) -> None:
        self._run, self._trial, self._budget, self._prune = run, trial, budget, prune
        samples = trial.calibration(run.network).sampler.validation
        if samples is None:
            raise InputError(
                "`max_loss` is measured on validation samples, and the data leave none. Give more "
                "data, or lower `samples`."
            )
        self._samples = samples
        # Where what is kept is written; the dense network until a trial was borne.
        self._network = copied(run.network, written=run.layout.names)
        self._file = run.checkpoint_file(self._network)
        saved = self._file.load()
        self._trials = [LossTrial.model_validate(t) for t in saved.done["trials"]] if saved else []
        self._best: PruneResult | None = None
        if saved is not None and saved.done["record"] is not None:
            record = RunRecord.model_validate(saved.done["record"])
            masks = {n: m.bool() for n, m in saved.others.items()}
            self._best = PruneResult(model=self._network, masks=masks, record=record)

    @cached_property
    def _dense(self) -> list[Measure]:
        """The measures of the dense network, after the first trial, which may be refused."""
        return self._measured(self._run.network, "dense")

    def best(self) -> PruneResult:
        """Search; return the sparsest result that was borne, or the dense network."""
        borne, refused = 1.0, 0.0  # densities
        while refused * _CLOSE < borne and borne > _SPARSEST:
            density = math.sqrt(refused * borne) if refused else borne / 2
            if self._is_borne(round(1 - density, 4)):
                borne = density
            else:
                refused = density
        best = self._best or self._pruned(0.0)
        seconds = sum(trial.seconds for trial in self._trials)
        if self._best is not None:  # whose own time is one of the trials'
            seconds = max(0.0, seconds - sum(best.seconds.values()))
        return best.described(
            search=self._record(),
            settings={**best.record.settings, **self._run.settings},
            seconds={"search": seconds, **best.seconds},
        )

    def _is_borne(self, sparsity: float) -> bool:
        """Return whether little enough is lost at a sparsity, which is tried if it was not yet."""
        known = [trial for trial in self._trials if trial.sparsity == sparsity]
        if not known:
            try:
                self._budget.at(sparsity).bind(self._run.layout)
            except InputError:  # fewer weights than floors keep
                return False
            known = [self._tried(sparsity)]
        lost = known[0].lost
        return lost is not None and lost <= self._budget.max_loss

    def _tried(self, sparsity: float) -> LossTrial:
        began = time.perf_counter()
        result = self._pruned(sparsity)
        pruned = self._measured(result.model, f"at sparsity {sparsity:.1%}")
        lost, error = _lost(self._dense, pruned)
        seconds = time.perf_counter() - began
        trial = LossTrial(
            sparsity=sparsity, lost=finite(lost), standard_error=finite(error), seconds=seconds
        )
        self._trials.append(trial)
        if lost <= self._budget.max_loss:
            restore(self._network, tensors_of(result.model))
            self._best = replace(result, model=self._network)
        self._file.save(self._saved)
        return trial

    def _pruned(self, sparsity: float) -> PruneResult:
        place = f"sparsity {sparsity:.1%}: "
        config = self._trial.config
        config = replace(config, progress=Placed(config.progress, place))
        return self._prune(replace(self._trial, config=config, budget=self._budget.at(sparsity)))

    def _measured(self, network: nn.Module, name: str) -> list[Measure]:
        """Return the measures of the groups of samples."""
        loss = self._run.config.sampling.loss_for(self._samples.parts[0])
        size = math.ceil(len(self._samples) / _GROUPS)
        task, progress = f"measure {name}", self._run.config.progress
        measure = partial(loss.measure, network)
        return run_over(network, self._samples, size, measure, task=task, progress=progress)

    def _saved(self) -> Saved:
        best = self._best
        done = {
            "trials": [trial.model_dump(mode="json") for trial in self._trials],
            "record": None if best is None else best.record.model_dump(mode="json"),
        }
        masks = {} if best is None else best.masks
        whole = torch.ones(self._run.layout.size, dtype=torch.bool, device="cpu")
        return Saved(mask=whole, done=done, others=masks)

    def _record(self) -> SearchRecord:
        measure = self._dense[0]
        return SearchRecord(
            max_loss=self._budget.max_loss,
            unit="points" if is_accuracy(measure.name) else "per cent",
            metric=measure.name,
            samples=len(self._samples),
            trials=tuple(self._trials),
        )


def _lost(dense: Sequence[Measure], pruned: Sequence[Measure]) -> tuple[float, float]:
    """Return what is lost, and its standard error: points of an accuracy, else per cent.

    Both are of the mean change over groups of units, of a logarithm where the measure is e to one.
    """
    before, after = (
        sum(measure.total for measure in measures) / sum(measure.count for measure in measures)
        for measures in (dense, pruned)
    )
    # Where memory ran out in one pass only, its groups are others, and tell no error.
    pairs = zip(dense, pruned, strict=True) if len(dense) == len(pruned) else ()
    changes = [p.total / p.count - d.total / d.count for d, p in pairs if d.count and p.count]
    spread = math.nan if len(changes) < 2 else statistics.stdev(changes) / math.sqrt(len(changes))
    if is_accuracy(dense[0].name):
        return before - after, spread
    if dense[0].log:
        ratio = math.exp(min(after - before, _LARGEST))
        return 100 * (ratio - 1), 100 * ratio * spread
    if before == 0:
        return (0.0 if after <= 0 else math.inf), math.nan
    return 100 * (after - before) / abs(before), 100 * spread / abs(before)


def _validation(run: Run) -> int:
    """Return the number of validation samples: as asked for, else 1,000 at least if they exist."""
    sampling, data = run.config.sampling, run.data
    if sampling.validation is not None or data is None:
        return sampling.validation or _LEAST
    size = len(data) if isinstance(data, Indexed) else sum(map(size_of, batches_of(data, 1)))
    used = sampling.count * sampling.fisher.samples_per_gradient
    wanted = max(_LEAST, min(VALIDATION, used // 2))
    return max(1, min(wanted, max(size - used, size // 5)))
