"""Prune a network: the whole path on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chita.data.batches import Data
from chita.logger import Logger, check_logger
from chita.losses import LossLike
from chita.models.prunable import prunable_layout
from chita.models.wrappers import unwrapped
from chita.progress.shown import ProgressLike, progress_of
from chita.pruning.before_after import before_and_after, measure_by
from chita.pruning.budget import Asked, PerLayerLike, make_budget
from chita.pruning.by_layers import by_layers, run_layers
from chita.pruning.gradually import run_gradually
from chita.pruning.job import SHARED, Job
from chita.pruning.journal import Journal
from chita.pruning.pose import Pose, make_solver
from chita.pruning.result import PruneResult
from chita.pruning.samples import Sampling
from chita.pruning.schedule import Stages
from chita.pruning.search import searched
from chita.pruning.so_far import Staged
from chita.pruning.staged import StagedRun
from chita.pruning.unfinished import Unfinished
from chita.solvers import Solver
from chita.training.recipe import Training


def prune(
    model: nn.Module,
    data: Data | None = None,
    *,
    sparsity: float | None = None,
    nnz: int | None = None,
    megabytes: float | None = None,
    min_keep: int = 1,
    pattern: str | None = None,
    blocks: str | None = None,
    per_layer: PerLayerLike | None = None,
    flops: float | None = None,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    method: str | Solver = "chita",
    stages: int | None = None,
    schedule: str | Sequence[float] = "exp",
    regrow: bool = True,
    earlier_rows: int = 0,
    training: Training | None = None,
    evaluation: Data | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    layerwise: bool | None = None,
    max_memory: float | None = None,
    rows: int | None = None,
    row_size: int = 1,
    rows_dtype: str | None = None,
    held_out: int | None = None,
    loss: LossLike = None,
    labels: str = "data",
    fisher: str = "auto",
    ridge: float | str = "auto",
    first_order: float | str = "auto",
    step: float | str = "auto",
    fisher_blocks: str = "auto",
    seed: int = 0,
    row_indices: Sequence[int] | None = None,
    bn_recalibrate: bool = True,
    bound: bool = False,
    unfinished: str | Path | None = None,
    resume: bool = False,
    inplace: bool = False,
    progress: ProgressLike = None,
    logger: Logger | None = None,
) -> PruneResult:
    """Choose which weights to remove and how to update the rest, together.

    All weights of linear, convolution, attention and recurrent layers compete in one budget;
    exactly the number asked for is kept.

    Args:
        model: a trained network. It is copied unless `inplace`; in either case it is run in eval
            mode, and training flags are as before at the end. `DataParallel` and compiled
            wrappers are taken off.
        data: calibration samples: a pair (inputs, targets), a dict for `model(**batch)`,
            `Examples`, or re-readable batches of such. Several inputs come as a tuple. Not needed
            for methods that look at the weights alone.
        sparsity: share of weights removed, in [0, 1): floor((1 - sparsity)·p) are kept, in exact
            decimal arithmetic. Give this, `nnz` or `megabytes`.
        nnz: number of weights kept.
        megabytes: millions of bytes that the weights kept take at most, stored as values in their
            type and a bit for each place.
        min_keep: weights kept at least in every tensor, against collapsed layers.
        pattern: "2:4": N weights **kept** of every M along the inputs, with no other budget.
        blocks: "4x1": blocks of outputs x inputs are kept or removed whole; with `sparsity`.
        per_layer: how `sparsity` is distributed: "uniform" or "erk" over tensors, "rows" over all
            outputs alike, "owl" by outliers (layer by layer alone, `ByOutliers`); or the sparsity
            of every tensor, by name or pattern. With any of
            `sparsity`, `nnz`, `megabytes` and `flops`: "search" measures what pruning each tensor
            alone costs in loss on held-out samples, at 13 sparsities (`chita.pruning.search`), and
            takes those levels whose losses sum to the least (`chita.pruning.allocation`); or give
            such a table, lists of pairs (sparsity, loss) by name or pattern. What levels leave of
            the budget goes to the largest weights.
        flops: share of the dense FLOPs of a forward pass that remains at most, in (0, 1]; with
            `sparsity`, `nnz` or `megabytes` at most so many weights, too (FALCON).
        targets: names, globs, `re:` patterns or module types of what to prune; None for all
            weights of such layers but embeddings. See `chita.models.targets.decide`.
        ignore: the same of what to leave untouched.
        method: a name (`chita methods` lists them) or a solver with its options.
        stages: rounds T, each with fresh rows at the weights that the last one left; None for one.
        schedule: how sparsity grows over the stages: "exp", "poly" (cubic), "linear", "constant"
            or "geometric" (`chita.pruning.schedule`), or the sparsities of all stages.
        regrow: whether a weight that one stage removes may be kept by a later one.
        earlier_rows: stages whose rows tell the next ones of the curvature, beside fresh ones that
            tell of gradient and curvature: `earlier_rows` + 1 times the rows, in memory and time
            of a solve, without collecting more (`chita.pruning.earlier`).
        training: epochs of fine-tuning with pruning events between them (`chita.Training`), in
            place of pruning alone; `stages` are then those inside each event. All parameters that
            require gradients are trained on `data`, but those samples that are held out.
        evaluation: other samples, on which the network is measured before and after as
            `chita.evaluate` does by `loss`; the record then tells `metric`, `dense_metric`,
            `pruned_metric` and, with `training`, that of every event and epoch.
        measure: with `training`, told of the network after every event and epoch, for the record,
            in place of `evaluation`: `lambda network: chita.evaluate(network, test).value`.
        layerwise: prune layer by layer, each so that its outputs change least (`alps` and others
            do nothing else), in place of all together by a model of the loss; None for what the
            method does. See `chita.pruning.layerwise`. `rows` are then samples.
        max_memory: megabytes of activations kept in memory while pruning layer by layer; more go
            to files. None for half of what is free.
        rows: gradients n collected in every stage; None for 1,000, or as many as the data give.
        row_size: samples m whose mean loss makes one row; rows·row_size samples are used.
        rows_dtype: "float32", "bfloat16" or "float16" to keep the rows so, in less memory; None
            keeps them in the type of the weights, float32 at least. Products are in float32.
        held_out: samples that make no row, by whose loss "auto" chooses; None for half as many as
            those of a stage's rows, at most 2,000 and a fifth of the data.
        loss: "cross_entropy", "nll", "mse", "model" (what `model(**batch).loss` returns) or a
            function (model, batch) -> mean loss; None for "model" with dicts, else cross-entropy.
        labels: "data", or "model" to draw targets from the network's predictions (true Fisher).
        fisher: "empirical", or "improved", which divides every row by its error at the outputs
            (`chita.collect.improved`) and needs a loss of outputs and targets; "auto" for the
            latter where the loss is one.
        ridge: λ, which multiplies ½‖w-w̄‖² beside the mean loss; "0.1x" means 0.1 times the mean
            of the Hessian's diagonal; "auto" chooses (`chita.pruning.auto`).
        first_order: scale s of the first-order term, 0 leaves it out, or "auto". With it, the
            weights that stay are trained as well.
        step: share of the way to the solution that is gone, in [0, 1], or "auto"; 0 takes the mask
            alone and leaves the weights that stay as they are.
        fisher_blocks: "whole", or "outputs" for an H whose entries between weights of different
            outputs are zero (`chita.problem.BlockGram`, `chita.pruning.posed`); "auto" chooses
            where `ridge` is chosen, and is "whole" where it is given.
        seed: of the draw of samples and labels.
        row_indices: indices of the samples instead of a draw; consecutive groups of m form a row.
        bn_recalibrate: estimate the running statistics of batch norms anew after every stage, from
            2,000 samples, and take them unless the loss on samples held out is higher for it
            (always, where none are).
        bound: also prove how low the objective can be at all (`lower_bound` in the record).
        unfinished: a file in which finished stages, or epochs, are kept while a run lasts.
        resume: go on from that file, if it is there, to the same bits; its settings must be these.
        inplace: prune `model` itself. On an error it is left as it was.
        progress: True shows how stages, collecting, solving and training advance, on a terminal, in
            a notebook, or as lines on standard error; or an object that is told
            (`chita.progress.Progress`).
        logger: told the numbers of every stage, epoch and layer (`chita.logger.Logger`), such as
            `chita.TensorBoard(folder)`. A run that goes on tells those that are new.

    Returns:
        The pruned network, masks, and the record with objective, counts and timings.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: a loss or the linear system is not finite or not definite, or training
            diverged before the last event.
    """
    asked = Asked(
        sparsity=sparsity,
        nnz=nnz,
        megabytes=megabytes,
        min_keep=min_keep,
        pattern=pattern,
        blocks=blocks,
        per_layer=per_layer,
        flops=flops,
    )
    solver = make_solver(method, seed=seed)
    job = Job(
        command="prune",
        choose=lambda network: prunable_layout(network, targets, ignore),
        budget=make_budget(asked),
        solver=solver,
        sampling=Sampling(
            rows=rows,
            row_size=row_size,
            rows_dtype=rows_dtype,
            held_out=held_out,
            loss=loss,
            labels=labels,
            fisher=fisher,
            seed=seed,
            row_indices=row_indices,
        ),
        pose=Pose(ridge=ridge, first_order=first_order, step=step, fisher_blocks=fisher_blocks),
        settings={**asked.plain(), "targets": targets, "ignore": ignore, "bound": bound},
        stages=Stages(count=stages, schedule=schedule, regrow=regrow, earlier_rows=earlier_rows),
        bn_recalibrate=bn_recalibrate,
        bound=bound,
        unfinished=unfinished,
        resume=resume,
        inplace=inplace,
        progress=progress_of(progress),
        logger=logger,
    )
    check_logger(logger)
    score = measure_by(evaluation, loss, job.progress)
    if score is not None:
        job.choose(unwrapped(model))  # refuses names that match nothing before it is measured
        measure = measure or (lambda network: score(network).value)
    layers = by_layers(solver, layerwise)
    return before_and_after(
        model,
        score,
        lambda: _run(model, data, job, training, measure, layers=layers, max_memory=max_memory),
    )


def _run(
    model: nn.Module,
    data: Data | None,
    job: Job,
    training: Training | None,
    measure: Callable[[nn.Module], float] | None,
    *,
    layers: bool,
    max_memory: float | None,
) -> PruneResult:
    """Prune gradually, layer by layer or in stages."""
    if training is not None:
        return run_gradually(
            model, data, job, training, measure, layers=layers, max_memory=max_memory
        )
    return run_layers(model, data, job, max_memory) if layers else run_stages(model, data, job)


@torch.inference_mode(False)
def run_stages(model: nn.Module, data: Data | None, job: Job) -> PruneResult:
    """Choose weights, then collect, pose, solve and write in stages; also the path of refitting."""
    network, layout, data = job.opened(model, data)
    kept = job.kept(network) if job.stages.number > 1 else None
    with job.at_work(network, layout):
        began = time.perf_counter()
        how: dict[str, Any] = {name: getattr(job, name) for name in SHARED}
        budget = searched(job.budget, network, layout, data, **how)
        searching = time.perf_counter() - began
        run = StagedRun(
            network, layout, data, budget=budget, stages=job.stages, bound=job.bound, **how
        )
        staged = _resumed(run, kept, job.logger)
    return job.result(network, layout, staged, budget=budget, searching=searching)


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
