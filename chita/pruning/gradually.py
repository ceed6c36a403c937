"""The path of gradual pruning, from a network and its data to a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chita.constraints import Budget
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.layout import Layout
from chita.models.mode import evaluation_mode, state_kept, without_cache
from chita.models.wrappers import uncompiled, unwrapped
from chita.progress import Progress, Silent
from chita.pruning.allocation import Searched
from chita.pruning.budget import layout_for
from chita.pruning.by_layers import activation_limit, check_asked, run_on, staged_of
from chita.pruning.gradual import Event, Gradual, GradualRun
from chita.pruning.layers import check_shares
from chita.pruning.pose import Pose
from chita.pruning.result import PruneResult, make_record, settings_of
from chita.pruning.samples import Sampling, Source
from chita.pruning.schedule import Stages
from chita.pruning.search import searched
from chita.pruning.staged import Staged, StagedRun
from chita.pruning.unfinished import Unfinished
from chita.pruning.working_copy import copied, restored_on_error
from chita.records import TrainingRecord
from chita.solvers import Solver
from chita.training.recipe import Training


@torch.inference_mode(False)
def run_gradually(
    model: nn.Module,
    data: Data | None,
    *,
    training: Training,
    measure: Callable[[nn.Module], float] | None,
    layers: bool,
    max_memory: float | None,
    choose: Callable[[nn.Module], Layout],
    budget: Budget,
    solver: Solver,
    sampling: Sampling,
    pose: Pose,
    settings: dict[str, Any],
    stages: Stages,
    bn_recalibrate: bool,
    bound: bool,
    unfinished: str | Path | None,
    resume: bool,
    inplace: bool,
    progress: Progress | None,
) -> PruneResult:
    """Prune in events and train between them; see `GradualRun`.

    `layers` says that events prune layer by layer; all else is as in `chita.prune`, and so is what
    is raised.
    """
    _check_asked(stages, sampling, pose, layers=layers, bound=bound, budget=budget)
    limit, progress = activation_limit(max_memory), progress or Silent()
    network = unwrapped(model)
    data = as_examples(data) or data
    layout = layout_for(budget, choose(network), network, data, sampling.loss, recorded=True)
    network = network if inplace else copied(network)
    settings = {**settings, **stages.asked(), "bn_recalibrate": bn_recalibrate}
    settings |= {"layerwise": layers, "training": asdict(training)}
    kept = None
    if unfinished is not None:
        asked = settings_of(solver, sampling, pose, settings)
        kept = Unfinished(Path(unfinished), resume=resume, settings=asked, network=network)
    shared: dict[str, Any] = {"solver": solver, "sampling": sampling, "pose": pose}
    with (
        evaluation_mode(network),
        uncompiled(network),
        without_cache(network),
        restored_on_error(network, None, inplace=inplace),
    ):
        began, judged = time.perf_counter(), False
        if layers:
            event = _by_layers(network, layout, data, limit=limit, **shared)
        else:
            shared["bn_recalibrate"] = bn_recalibrate
            budget = searched(budget, network, layout, data, **shared, progress=progress)
            last = budget if bound else None
            event = _by_rows(network, layout, data, stages=stages, proved=last, **shared)
            judged = bool(solver.curvatures) and (pose.judged or solver.judges)
        searching = time.perf_counter() - began
        run = GradualRun(
            network,
            layout,
            Source(sampling, data, judged=judged).pool,
            budget=budget,
            training=training,
            loss=sampling.loss,
            seed=sampling.seed,
            event=event,
            measure=measure,
            progress=progress,
        )
        done = _resumed(run, kept)
    record = make_record(
        network,
        command="prune",
        solver=solver,
        staged=done.staged,
        layout=layout,
        levels=budget.levels if isinstance(budget, Searched) else None,
        searching=searching,
        sampling=sampling,
        pose=pose,
        settings=settings,
        training=TrainingRecord(epochs=tuple(done.epochs), stopped=done.stopped),
    )
    return PruneResult(model=network, masks=layout.unflatten(done.staged.mask), record=record)


def _resumed(run: GradualRun, kept: Unfinished | None) -> Gradual:
    """Run, from what was kept on, and keep every epoch."""
    if kept is None:
        return run.run(None, {})
    found = kept.restored()
    done = run.run(
        None if found is None else Gradual.of(found.mask, found.done),
        {} if found is None else found.others,
        lambda now, others: kept.keep(now.staged.mask, now.plain(), others),
    )
    kept.remove()
    return done


def _by_rows(
    network: nn.Module,
    layout: Layout,
    data: Data | None,
    *,
    proved: Budget | None,
    **shared: Any,
) -> Event:
    """Events that prune by a model of the loss, with a bound of it for one budget."""

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        run = StagedRun(
            network,
            layout,
            data,
            budget=budget,
            bound=budget is proved,
            progress=progress,
            begin=1 - float(before.mask.double().mean()),
            drawn=len(before.records),
            **shared,
        )
        return run.run(Staged(mask=before.mask))

    return event


def _by_layers(
    network: nn.Module,
    layout: Layout,
    data: Data | None,
    *,
    sampling: Sampling,
    **shared: Any,
) -> Event:
    """Events that prune one layer after another, each on samples of its own."""

    def event(budget: Budget, before: Staged, progress: Progress) -> Staged:
        source = Source(sampling, data, judged=False)
        given = [source.next() for _ in range(len(before.records) + 1)][-1]
        loss = sampling.loss_for(given.parts[0])
        with state_kept(network):
            run = run_on(network, layout, given, loss, budget=budget, progress=progress, **shared)
            run.run()
        found = staged_of(run, layout, given, loss)
        found.mask = found.mask.to(before.mask.device)
        return found

    return event


def _check_asked(
    stages: Stages,
    sampling: Sampling,
    pose: Pose,
    *,
    layers: bool,
    bound: bool,
    budget: Budget,
) -> None:
    """Raise `InputError` on what does not go with training."""
    if not isinstance(stages.schedule, str):
        raise InputError(
            "schedule lists sparsities, but with training the events have theirs (`initial` and "
            "the number of `events`). Name a schedule for the stages inside an event."
        )
    if sampling.row_indices is not None:
        raise InputError(
            "row_indices name the samples of one problem, and training has one for each event. "
            "Leave them out."
        )
    if layers:
        check_asked(pose, stages, bound=bound)
        check_shares(budget)
        if not stages.regrow:
            raise InputError("regrow=False has no part in pruning layer by layer. Leave it out.")
