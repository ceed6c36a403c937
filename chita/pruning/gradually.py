"""The path of gradual pruning, from a network and its data to a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.data.batches import Data
from chita.errors import InputError
from chita.layout import Layout
from chita.logger import Logger
from chita.models.mode import state_kept
from chita.progress import Progress
from chita.pruning.by_layers import LayerStage, activation_limit, check_asked
from chita.pruning.gradual import Event, Gradual, GradualRun
from chita.pruning.job import SHARED, Job
from chita.pruning.journal import Journal
from chita.pruning.layers import check_layers, check_shares, layers_of
from chita.pruning.result import PruneResult
from chita.pruning.samples import Source
from chita.pruning.search import searched
from chita.pruning.so_far import Staged
from chita.pruning.staged import StagedRun
from chita.pruning.unfinished import Unfinished
from chita.records import TrainingRecord
from chita.training.recipe import Training


@torch.inference_mode(False)
def run_gradually(
    model: nn.Module,
    data: Data | None,
    job: Job,
    training: Training,
    measure: Callable[[nn.Module], float] | None,
    *,
    layers: bool,
    max_memory: float | None,
) -> PruneResult:
    """Prune in events and train between them; see `GradualRun`.

    `layers` says that events prune layer by layer; all else is as in `chita.prune`, and so is what
    is raised.
    """
    _check_asked(job, layers=layers)
    limit, searching, judged = activation_limit(max_memory), 0.0, False
    network, layout, data = job.opened(model, data)
    told: dict[str, Any] = {"layerwise": layers, "training": asdict(training)}
    kept, budget = job.kept(network, **told), job.budget
    with job.at_work(network, None):
        check: Callable[[Budget], object]
        if layers:
            event = _by_layers(network, layout, data, job, limit)
            check = partial(check_layers, layers=layers_of(network, layout))
        else:
            began = time.perf_counter()
            how: dict[str, Any] = {name: getattr(job, name) for name in SHARED}
            budget = searched(job.budget, network, layout, data, **how)
            searching = time.perf_counter() - began
            event = _by_rows(network, layout, data, job, last=budget)
            check = partial(_check_bound, layout=layout)
            judged = bool(job.solver.curvatures) and (job.pose.judged or job.solver.judges)
        run = GradualRun(
            network,
            layout,
            Source(job.sampling, data, judged=judged).pool,
            budget=budget,
            training=training,
            loss=job.sampling.loss,
            seed=job.sampling.seed,
            event=event,
            check=check,
            measure=measure,
            progress=job.progress,
        )
        done = _resumed(run, kept, job.logger)
    return job.result(
        network,
        layout,
        done.staged,
        budget=budget,
        searching=searching,
        trained=TrainingRecord(epochs=tuple(done.epochs), stopped=done.stopped),
        **told,
    )


def _resumed(run: GradualRun, kept: Unfinished | None, logger: Logger | None) -> Gradual:
    """Run, from what was kept on; log and keep every epoch, with the event before it."""
    found = None if kept is None else kept.restored()
    begun = None if found is None else Gradual.of(found.mask, found.done)
    journal = Journal(logger)
    if begun is not None:
        told = {"stages": len(begun.staged.records), "epochs": len(begun.epochs)}
        journal = Journal(logger, **told)

    def finished(now: Gradual, others: dict[str, Tensor]) -> None:
        journal.log(stages=now.staged.records, epochs=now.epochs)
        if kept is not None:
            kept.keep(now.staged.mask, now.plain(), others)

    done = run.run(begun, {} if found is None else dict(found.others), finished)
    journal.log(stages=done.staged.records)  # an event whose epoch diverged
    if kept is not None:
        kept.remove()
    return done


def _by_rows(
    network: nn.Module, layout: Layout, data: Data | None, job: Job, *, last: Budget
) -> Event:
    """Events that prune by a model of the loss, each in as many stages as asked for."""

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        how: dict[str, Any] = {name: getattr(job, name) for name in SHARED}
        run = StagedRun(
            network,
            layout,
            data,
            budget=budget,
            stages=job.stages,
            bound=job.bound and budget is last,
            begin=1 - float(before.mask.double().mean()),
            drawn=len(before.records),
            **{**how, "progress": progress},
        )
        return run.run(Staged(mask=before.mask))

    return event


def _by_layers(
    network: nn.Module, layout: Layout, data: Data | None, job: Job, limit: int
) -> Event:
    """Events that prune one layer after another, each on samples of its own."""

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        source = Source(job.sampling, data, judged=False)
        given = [source.next() for _ in range(len(before.records) + 1)][-1]
        stage = LayerStage(network, layout, source, given, job, progress=progress)
        with state_kept(network):
            run = stage.begun(budget, limit)
            run.run()
        found = stage.ended(run)
        found.mask = found.mask.to(before.mask.device)
        return found

    return event


def _check_bound(budget: Budget, layout: Layout) -> None:
    """Raise `InputError` when a budget cannot be met."""
    budget.bind(layout)


def _check_asked(job: Job, *, layers: bool) -> None:
    """Raise `InputError` on what does not go with training."""
    if not isinstance(job.stages.schedule, str):
        raise InputError(
            "schedule lists sparsities, but with training the events have theirs (`initial` and "
            "the number of `events`). Name a schedule for the stages inside an event."
        )
    if job.sampling.row_indices is not None:
        raise InputError(
            "row_indices name the samples of one problem, and training has one for each event. "
            "Leave them out."
        )
    if layers:
        check_asked(job.pose, job.stages, bound=job.bound)
        check_shares(job.budget)
        if not job.stages.regrow:
            raise InputError("regrow=False has no part in pruning layer by layer. Leave it out.")
