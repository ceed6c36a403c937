"""The path of pruning layer by layer, from a network and its data to a result."""

from __future__ import annotations

import time
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.constraints import Budget
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import Loss
from chita.machine import available_memory
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.problem import GradientGram, InputGram
from chita.progress import Progress
from chita.pruning.config import AUTO, OUTPUTS, Fisher, Memory, Quadratic, Stages
from chita.pruning.job import Job
from chita.pruning.journal import Journal
from chita.pruning.judge import Judge
from chita.pruning.layerwise import LayerwiseRun
from chita.pruning.result import PruneResult
from chita.pruning.samples import Source
from chita.pruning.schedule import NORM_SAMPLES
from chita.pruning.so_far import Staged
from chita.pruning.statistics import renew
from chita.pruning.unfinished import Unfinished
from chita.records import SolvedRecord, StageRecord
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

_BATCH = 16  # samples that run together


def by_layers(solver: Solver, asked: bool | None) -> bool:
    """Return whether to prune layer by layer: as asked, or as the method does where nothing is.

    Raises `InputError` when the method cannot do what is asked.
    """
    able = {kind: solver.takes(kind) for kind in (GradientGram, InputGram)}
    if asked is None:
        return not able[GradientGram]
    if asked and not able[InputGram]:
        raise InputError(
            f"{type(solver).__name__} prunes by gradients and not layer by layer. Leave "
            "`layerwise` out, or take chita, alps or another solver that `chita solvers` lists "
            "for layers."
        )
    if not asked and not able[GradientGram]:
        raise InputError(f"{type(solver).__name__} prunes layer by layer alone; leave that to it.")
    return asked


@torch.inference_mode(False)
def run_layers(job: Job) -> PruneResult:
    """Prune the units of a network one after another; see `LayerwiseRun`.

    Raises as `chita.prune` does.
    """
    limit = activation_limit(job.memory)
    network, layout = job.worked_on(), job.layout
    source = Source(job.sampling, job.data, judged=False)
    given = source.next()
    kept = job.kept(network, data=given.digest())
    with job.at_work(network, layout):
        stage = LayerStage(network, layout, source, given, job, progress=job.progress)
        found = None if kept is None else kept.restored()
        with state_kept(network):
            shares = None if found is None else found.done["shares"]
            run = stage.begun(job.budget, limit, shares)
            if found is not None:
                _restore(run, layout, found.mask, found.done)
            journal = Journal(job.logger, layers=len(run.solved))

            def finished(done: LayerwiseRun) -> None:
                journal.log(layers=done.solved.values())  # first: what is kept is not done again
                _keep(kept, done, layout)

            run.run(finished)
        staged = stage.ended(run)
        journal.log(stages=staged.records)
        if kept is not None:
            kept.remove()
    return job.result(network, staged, solved=run.solved)


@final
class LayerStage:
    """One stage in which a network is pruned layer by layer.

    Args:
        network: in eval mode, as it is before the stage.
        layout: the weights to prune.
        source: its samples held out may refuse new statistics of batch norms, with targets.
        given: the samples that the layers see.
        job: what was asked for.
        progress: told of every step.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        source: Source,
        given: Examples,
        job: Job,
        *,
        progress: Progress,
    ) -> None:
        self._network, self._layout, self._job = network, layout, job
        self._given, self._progress = given, progress
        self._device = network.get_parameter(layout.names[0]).device
        self._loss = job.sampling.loss_for(given.parts[0])
        self._normal: Examples | None = None
        self._judge: Judge | None = None
        if job.stages.bn_recalibrate and batch_norms(network):
            self._normal = source.some(NORM_SAMPLES)
            held = source.judges(network, self._device)
            judge = held and Judge(network, layout, held, job.sampling, normed=True)
            if judge and (job.sampling.validation or _tells(judge)):
                self._judge = judge

    def begun(
        self, budget: Budget, limit: int, shares: dict[str, float] | None = None
    ) -> LayerwiseRun:
        """Return the run that prunes the layers; see `LayerwiseRun`."""
        return LayerwiseRun(
            self._network,
            self._layout,
            run=lambda batch: _called(self._network, batch, self._loss),
            batches=[*self._given.to(self._device).batches(_BATCH)],
            shares=shares,
            budget=budget,
            solver=self._job.solver,
            pose=self._job.pose,
            limit=limit,
            progress=self._progress,
        )

    def ended(self, run: LayerwiseRun) -> Staged:
        """Renew statistics of batch norms after a run; return what it came to."""
        normed = None
        if self._normal is not None:
            began = time.perf_counter()
            normed = renew(
                self._network,
                self._normal,
                self._job.sampling,
                self._judge,
                self._device,
                self._progress,
            )
            run.seconds["batch_norm"] = time.perf_counter() - began
        mask = self._layout.flatten(run.masks)
        return Staged(
            mask=mask,
            records=[_stage(run, mask, self._given.digest())],
            rows=len(self._given),
            held_out=len(self._judge) if self._judge else 0,
            loss=self._loss.name,
            batch_norm=normed,
        )


def check_asked(solver: Solver, stages: Stages, fisher: Fisher, quadratic: Quadratic) -> None:
    """Raise `InputError` on what has no part here."""
    idle = [
        f"`{name}`"
        for name, given in (
            ("first_order", quadratic.first_order not in (AUTO, 0.0)),
            ("structure", fisher.structure == OUTPUTS),
            ("step_size", quadratic.step_size not in (AUTO, 1.0)),
            ("stages", stages.number > 1),
            ("history", fisher.history > 0),
            ("bound", solver.bound),
        )
        if given
    ]
    if idle:
        raise InputError(
            "Pruning layer by layer, one stage without a model of the loss, takes no "
            f"{' and no '.join(idle)}. Leave out what is named."
        )


def _tells(judge: Judge) -> bool:
    """Whether the samples held out have a loss: layers need no targets."""
    try:
        judge.check()
    except InputError:
        return False
    return True


def activation_limit(memory: Memory) -> int:
    """Return the bytes of activations kept in memory, half of what is free if nothing is said."""
    asked = memory.activation_bytes
    return (available_memory() or 2_000_000_000) // 2 if asked is None else asked


def _called(network: nn.Module, batch: Any, loss: Loss) -> None:
    with failures_named(network, batch):
        loss.run(network, batch)


def _keep(kept: Unfinished | None, run: LayerwiseRun, layout: Layout) -> None:
    """Write what a run came to so far, where that is asked for."""
    if kept is not None:
        done = {name: solved.model_dump(mode="json") for name, solved in run.solved.items()}
        plain = {"solved": done, "seconds": run.seconds, "shares": run.shares}
        kept.keep(layout.flatten(run.masks), plain)


def _restore(run: LayerwiseRun, layout: Layout, mask: Tensor, plain: Any) -> None:
    """Bring a run to where it was."""
    run.masks.update({n: part.cpu() for n, part in layout.unflatten(mask).items()})
    found = plain["solved"].items()
    run.solved.update({n: SolvedRecord.model_validate(solved) for n, solved in found})
    run.seconds.update(plain["seconds"])


def _stage(run: LayerwiseRun, mask: Tensor, digest: str | None) -> StageRecord:
    nnz = int(mask.sum())
    statuses = {solved.status for solved in run.solved.values() if solved.status is not None}
    return StageRecord(
        sparsity=1 - nnz / len(mask),
        nnz=nnz,
        status=statuses.pop() if len(statuses) == 1 else "iteration limit",
        iterations=0,
        data_hash=digest,
        seconds=run.seconds,
        memory_mb=run.memory_mb,
    )
