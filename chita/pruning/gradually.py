"""The path of gradual pruning, from a network and its data to a result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.errors import InputError
from chita.layout import Layout
from chita.logger import Logger
from chita.models.mode import state_kept
from chita.progress import Progress
from chita.pruning.by_layers import LayerStage, activation_limit
from chita.pruning.gradual import Event, Gradual, GradualRun
from chita.pruning.job import Job
from chita.pruning.journal import Journal
from chita.pruning.layers import check_layers, layers_of
from chita.pruning.result import PruneResult
from chita.pruning.samples import Source, check_samples
from chita.pruning.so_far import Staged
from chita.pruning.staged import StagedRun
from chita.pruning.unfinished import Unfinished
from chita.records import TrainingRecord
from chita.training.recipe import Training


@torch.inference_mode(False)
def run_gradually(job: Job, training: Training) -> PruneResult:
    """Prune in events and train between them; see `GradualRun`.

    Raises as `chita.prune` does.
    """
    network, layout, searching, judged = job.worked_on(), job.layout, 0.0, False
    kept, budget = job.kept(network), job.budget
    with job.at_work(network, None):
        check: Callable[[Budget], object]
        if job.layers:
            event = _by_layers(network, job)
            check = partial(check_layers, layers=layers_of(network, layout))
        else:
            budget, searching = job.searched(network)
            event = _by_rows(network, job, last=budget)
            check = partial(_check_bound, layout=layout)
            judged = bool(job.solver.curvatures) and (job.pose.judged or job.solver.judges)
        run = GradualRun(
            network,
            layout,
            Source(job.sampling, job.data, judged=judged).pool,
            budget=budget,
            training=training,
            loss=job.sampling.loss,
            seed=job.sampling.seed,
            event=event,
            check=check,
            measure=job.measure,
            progress=job.progress,
        )
        done = _resumed(run, kept, job.logger)
    return job.result(
        network,
        done.staged,
        budget=budget,
        searching=searching,
        trained=TrainingRecord(epochs=tuple(done.epochs), stopped=done.stopped),
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


def _by_rows(network: nn.Module, job: Job, *, last: Budget) -> Event:
    """Events that prune by a model of the loss, each in as many stages as asked for."""

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        solver = job.solver
        run = StagedRun(
            network,
            job.layout,
            job.data,
            budget=budget,
            stages=job.stages,
            solver=solver if budget is last else solver.without_bound,
            sampling=job.sampling,
            pose=job.pose,
            progress=progress,
            begin=1 - float(before.mask.double().mean()),
            drawn=len(before.records),
        )
        return run.run(Staged(mask=before.mask))

    return event


def _by_layers(network: nn.Module, job: Job) -> Event:
    """Events that prune one layer after another, each on samples of its own."""
    limit = activation_limit(job.memory)

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        source = Source(job.sampling, job.data, judged=False)
        given = [source.next() for _ in range(len(before.records) + 1)][-1]
        stage = LayerStage(network, job.layout, source, given, job, progress=progress)
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


def check_training(job: Job) -> None:
    """Raise `InputError` on what does not go with training."""
    if not isinstance(job.stages.schedule, str):
        raise InputError(
            "`schedule` lists sparsities, but with training the events have theirs (`initial` and "
            "the number of `events`). Name a schedule for the stages inside an event."
        )
    check_samples(job.sampling, job.data)
    if job.layers and not job.stages.regrow:
        raise InputError("regrow=False has no part in pruning layer by layer. Leave it out.")
