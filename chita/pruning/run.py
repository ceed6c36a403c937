"""Runs, from what is asked for to a result: opened, which refuses all that can be, then run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.constraints import Budget, FixedMasks
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.logger import Logger, check_logger
from chita.losses import LossLike
from chita.masks.fit import Masks, fit_masks
from chita.models.prunable import prunable_layout
from chita.models.wrappers import unwrapped
from chita.progress.shown import ProgressLike, progress_of
from chita.pruning.before_after import Measure, before_and_after
from chita.pruning.by_layers import by_layers, check_asked, run_layers
from chita.pruning.config import (
    AUTO,
    Checkpoint,
    Fisher,
    Memory,
    Quadratic,
    RunOptions,
    Stages,
    Training,
    check_groups,
    check_one_stage,
)
from chita.pruning.gradually import check_training, run_gradually
from chita.pruning.job import Job
from chita.pruning.journal import Journal
from chita.pruning.layers import check_layers, check_shares, layers_of
from chita.pruning.layout import layout_for
from chita.pruning.pose import Pose
from chita.pruning.result import PruneResult
from chita.pruning.samples import Sampling, check_samples
from chita.pruning.so_far import Staged
from chita.pruning.staged import StagedRun
from chita.pruning.unfinished import Unfinished
from chita.solvers import BSO, Magnitude, Solver
from chita.solvers.named import solver_name
from chita.training.evaluate import Score


@final
@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run that was checked and not begun. Fields: `model`, as given; `job`."""

    model: nn.Module
    job: Job

    def run(self, measure: Measure | None = None, *, dense: Score | None = None) -> PruneResult:
        """Measure the network, prune it, and measure the result.

        `dense` is what the network measures, where that is known.
        """
        return before_and_after(self.model, measure, self._work, dense=dense)

    def _work(self) -> PruneResult:
        """Prune gradually, layer by layer or in stages."""
        if self.job.training is not None:
            return run_gradually(self.job, self.job.training)
        return run_layers(self.job) if self.job.layers else run_stages(self.job)


def check_options(
    budget: Budget | None,
    solver: Solver,
    stages: Stages,
    fisher: Fisher,
    quadratic: Quadratic,
    layerwise: bool | None,
) -> bool:
    """Return whether to prune layer by layer.

    Raises `InputError` for options that together no network and no data could make usable.
    """
    layers = by_layers(solver, RunOptions(layerwise=layerwise).layerwise)
    if solver.bound and not solver.curvatures:
        raise InputError(
            f"{solver_name(solver)} collects no gradients, so no bound can be proven. Leave its "
            "option bound out."
        )
    if layers:
        if budget is not None:
            check_shares(budget)
        check_asked(solver, stages, fisher, quadratic)
    else:
        Pose(quadratic=quadratic, structure=fisher.structure).settled(solver)
    return layers


def open_prune(
    model: nn.Module,
    data: Data | None,
    *,
    budget: Budget,
    solver: Solver,
    stages: Stages,
    fisher: Fisher,
    quadratic: Quadratic,
    training: Training | None,
    layerwise: bool | None,
    memory: Memory,
    validation: int | None,
    measure: Callable[[nn.Module], float] | None,
    targets: str | Sequence[str] | None,
    ignore: str | Sequence[str],
    loss: LossLike,
    checkpoint: Checkpoint | None,
    inplace: bool,
    seed: int,
    progress: ProgressLike,
    logger: Logger | None,
) -> Opened:
    """Return a run of pruning, as `chita.prune` is asked for it, with everything checked.

    Raises `InputError` as `chita.prune` does, before any work.
    """
    check_logger(logger)
    check_groups(
        fisher=fisher, quadratic=quadratic, memory=memory, stages=stages, training=training
    )
    sampling = Sampling(fisher=fisher, validation=validation, seed=seed, loss=loss)
    pose = Pose(quadratic=quadratic, structure=fisher.structure)
    layers = check_options(budget, solver, stages, fisher, quadratic, layerwise)
    if not layers:
        _check_chosen(sampling, pose, solver)
    network = unwrapped(model)
    layout = prunable_layout(network, targets, ignore)
    data = as_examples(data) or data
    if solver.curvatures:
        check_samples(sampling, data)
    layout = layout_for(budget, layout, network, data, loss, recorded=True)
    job = Job(
        command="prune",
        network=network,
        layout=layout,
        data=data,
        budget=budget,
        solver=solver,
        sampling=sampling,
        pose=pose,
        stages=stages,
        memory=memory,
        training=training,
        measure=measure,
        layers=layers,
        checkpoint=checkpoint,
        inplace=inplace,
        progress=progress_of(progress),
        logger=logger,
        others={"targets": targets, "ignore": ignore},
    )
    if training is not None:
        check_training(job)
    if layers:
        check_layers(budget, layers_of(network, layout))
    else:
        budget.bind(layout)
    return Opened(model=model, job=job)


def open_refit(
    model: nn.Module,
    data: Data,
    masks: Masks,
    *,
    fisher: Fisher,
    quadratic: Quadratic,
    stages: Stages,
    validation: int | None,
    loss: LossLike,
    seed: int,
    inplace: bool,
    progress: ProgressLike,
) -> Opened:
    """Return a run that gives the weights of a mask their best values; see `chita.refit`."""
    check_groups(fisher=fisher, quadratic=quadratic, stages=stages)
    check_one_stage(stages, fisher, "refitting")
    sampling = Sampling(fisher=fisher, validation=validation, seed=seed, loss=loss)
    pose = Pose(quadratic=quadratic, structure=fisher.structure)
    _check_chosen(sampling, pose, BSO())
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    if quadratic.first_order in (0, AUTO) and _nothing_to_do(network, fitted):
        raise InputError(
            "The weights that the mask removes are zero already, so refitting changes nothing. "
            "Give the network as it was before pruning."
        )
    data = as_examples(data) or data
    check_samples(sampling, data)
    budget = FixedMasks(masks=fitted)
    job = Job(
        command="refit",
        network=network,
        layout=layout_for(budget, layout, network, data, loss, recorded=True),
        data=data,
        budget=budget,
        solver=BSO(),
        sampling=sampling,
        pose=pose,
        stages=stages,
        inplace=inplace,
        progress=progress_of(progress),
        others={"mask": _source(masks)},
    )
    return Opened(model=model, job=job)


def open_apply(model: nn.Module, masks: Masks, *, inplace: bool, progress: ProgressLike) -> Opened:
    """Return a run that sets to zero what a mask removes; see `chita.apply_masks`."""
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    job = Job(
        command="apply",
        network=network,
        layout=layout,
        data=None,
        budget=FixedMasks(masks=fitted),
        solver=Magnitude(),
        inplace=inplace,
        progress=progress_of(progress),
        others={"mask": _source(masks)},
    )
    return Opened(model=model, job=job)


@torch.inference_mode(False)
def run_stages(job: Job) -> PruneResult:
    """Choose weights, then collect, pose, solve and write in stages; also the path of refitting."""
    network, layout = job.worked_on(), job.layout
    kept = job.kept(network) if job.stages.number > 1 else None
    with job.at_work(network, layout):
        budget, searching = job.searched(network)
        run = StagedRun(
            network,
            layout,
            job.data,
            budget=budget,
            stages=job.stages,
            solver=job.solver,
            sampling=job.sampling,
            pose=job.pose,
            progress=job.progress,
        )
        staged = _resumed(run, kept, job.logger)
    return job.result(network, staged, budget=budget, searching=searching)


def _resumed(run: StagedRun, kept: Unfinished | None, logger: Logger | None) -> Staged:
    """Run, from what was kept on; log and keep every stage."""
    found = None if kept is None else kept.restored()
    begun = None if found is None else Staged.of(found.mask, found.done, found.others)
    journal = Journal(logger, stages=0 if begun is None else len(begun.records))

    def finished(done: Staged) -> None:
        journal.log(stages=done.records)  # first: what is kept is not done again
        if kept is not None:
            kept.keep(done.mask, done.plain(), done.tensors())

    staged = run.run(begun, finished)
    if kept is not None:
        kept.remove()
    return staged


def _check_chosen(sampling: Sampling, pose: Pose, solver: Solver) -> None:
    """Raise `InputError` where something is chosen by validation samples, and there are none."""
    if sampling.validation == 0 and solver.curvatures and pose.settled(solver).judged:
        raise InputError(
            "`validation` is 0, but auto chooses by validation samples. Allow some, or give "
            "`ridge`, `first_order`, `step_size` and `structure`."
        )


def _nothing_to_do(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    with torch.no_grad():
        return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items())


def _source(masks: Masks) -> str:
    return str(masks) if isinstance(masks, (str, Path)) else f"{len(masks)} tensors"
