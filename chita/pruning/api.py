"""The functions that Python users call: prune a network, refit it to a mask, apply a mask.

Each opens a run (`chita.pruning.opening`), which refuses all that can be refused, and performs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from chita.constraints import Budget, MaxLoss, as_budget
from chita.data.batches import Data
from chita.logger import Logger
from chita.losses import LossLike
from chita.masks.fit import Masks
from chita.models.mode import State, at_state, changed_since, own_modes
from chita.progress import Placed, Progress
from chita.progress.display import ProgressLike, progress_of
from chita.pruning.config import Checkpoint, Fisher, Memory, Quadratic, Stages, Training
from chita.pruning.gradual import run_gradual
from chita.pruning.layer_stage import run_layers
from chita.pruning.max_loss import run_max_loss
from chita.pruning.opening import open_apply, open_prune, open_refit
from chita.pruning.pilot import run_stages
from chita.pruning.result import PruneResult
from chita.pruning.run import PruneConfig, Run
from chita.pruning.schedule import as_stages
from chita.records import peak_rss_mb, with_total
from chita.solvers import BSO, Magnitude
from chita.solvers.named import SolverLike, make_solver
from chita.training.evaluate import Score, check_evaluation, evaluate

Scorer = Callable[[nn.Module, str], Score]
"""Measures how good a network is, which a word names for the progress: dense, pruned."""


def prune(
    model: nn.Module,
    data: Data | None = None,
    *,
    sparsity: float | None = None,
    budget: Budget | str | None = None,
    solver: SolverLike = "chita",
    stages: int | Stages = 1,
    fisher: Fisher = Fisher(),
    quadratic: Quadratic = Quadratic(),
    training: Training | None = None,
    layerwise: bool | None = None,
    memory: Memory = Memory(),
    validation: int | None = None,
    evaluation: Data | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    loss: LossLike = None,
    checkpoint: Checkpoint | str | Path | None = None,
    inplace: bool = False,
    seed: int = 0,
    progress: ProgressLike = None,
    logger: Logger | None = None,
) -> PruneResult:
    """Choose which weights to remove and how to update the rest, together.

    All weights of linear, convolution, attention and recurrent layers compete in one budget;
    exactly the number asked for is kept.

    Args:
        model: a trained network. It is copied unless `inplace`; in either case it is run in eval
            mode, and training flags are as before at the end. `DataParallel` and compiled
            wrappers are taken off. What the caller has set around the call has no part:
            `torch.autocast`, inference mode and products in TF32 or bfloat16 are off. A network
            that needs autocast enters it in its own `forward`.
        data: calibration samples: a pair (inputs, targets), a dict for `model(**batch)`,
            `Examples`, or re-readable batches of such. Several inputs come as a tuple. Samples come
            first in every tensor; a batch with a tensor that all its samples share counts as one
            sample. A batch that is None is passed over. Not needed for solvers that look at the
            weights alone.
        sparsity: share of weights removed, in [0, 1): floor((1 - sparsity)·p) are kept, in exact
            decimal arithmetic. Short for `budget=chita.Sparsity(sparsity)`.
        budget: what is kept: `chita.Sparsity`, `Nonzeros`, `Megabytes`, `NofM`, `Blocks`,
            `PerLayer`, `PerOutput`, `Quotas`, `ByOutliers`, `Searched` or `Flops`, which may be
            joined to one of the first three by `&`; or a text, such as "2:4",
            "4x1 & sparsity=0.8" or "flops=0.3 & sparsity=0.8".
        solver: a name (`chita solvers` lists them), a solver of `chita.solvers` with its options,
            or a class of your own as "package.module:Class".
        stages: number of rounds, or `chita.Stages` with a schedule and more.
        fisher: how gradients are collected: `chita.Fisher`.
        quadratic: ridge, first-order scale and step size, chosen by validation samples unless
            given: `chita.Quadratic`.
        training: epochs of fine-tuning with pruning events between them (`chita.Training`), in
            place of pruning alone; `stages` are then those inside each event. All parameters that
            require gradients are trained on `data`, but for the validation samples.
        layerwise: prune layer by layer, each so that its outputs change least (`alps` and others
            do nothing else), in place of all together by a model of the loss; None for what the
            solver does. See `chita.pruning.layerwise`.
        memory: how much memory a run may take: `chita.Memory`.
        validation: samples that make no gradient, by whose loss "auto" chooses; None for half as
            many as the gradients take, at most 2,000 and a fifth of the data.
        evaluation: other samples, on which the network is measured before and after as
            `chita.evaluate` does by `loss`; the record then has `metric`, `dense_metric`,
            `pruned_metric` and, with `training`, that of every event and epoch.
        measure: with `training`, called with the network after every event and epoch, for the
            record, in place of `evaluation`: `lambda network: chita.evaluate(network, test).value`.
        targets: names, globs, `re:` patterns or module types of what to prune; None for all
            weights of such layers but embeddings. See `chita.models.targets.decide`.
        ignore: the same of what to leave untouched.
        loss: "cross_entropy", "nll", "mse", "model" (what `model(**batch).loss` returns) or a
            function (model, batch) -> mean loss; None for "model" with dicts, else cross-entropy,
            whose targets are classes, or probabilities of two classes or more. The function gets
            batches of the type that the data have. Where its mean over a batch is not that over
            the samples, as with weights of classes, a warning says how to write it.
        checkpoint: a file in which finished stages, epochs or layers are kept while a run lasts,
            or `chita.Checkpoint`, which can go on from there to the same bits.
        inplace: prune `model` itself. On an error it is left as it was.
        seed: of the draw of samples and labels, and of solvers that draw.
        progress: True shows how stages, collecting, solving and training advance, on a terminal, in
            a notebook (with ipywidgets), or as lines on standard error; or an object that receives
            it (`chita.progress.Progress`).
        logger: receives the numbers of every stage, epoch and layer (`chita.logger.Logger`), such
            as `chita.TensorBoard(folder)`. A run that goes on logs those that are new.

    Returns:
        The pruned network, masks, and the record with objective, counts and timings.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: a loss or the linear system is not finite or not definite, or training
            diverged before the last event.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -4.0], [3.0, 2.0]]))
    >>> prune(layer, sparsity=0.5, solver="magnitude").model.weight.tolist()
    [[0.0, -4.0], [3.0, 0.0]]
    """
    shown = progress_of(progress)
    scorer = _scorer(evaluation, loss, shown)
    if measure is None and scorer is not None:
        measure = lambda network: scorer(network, "").value  # noqa: E731
    config = PruneConfig(
        budget=as_budget(budget, sparsity),
        solver=make_solver(solver, seed=seed),
        stages=as_stages(stages),
        fisher=fisher,
        quadratic=quadratic,
        training=training,
        layerwise=layerwise,
        memory=memory,
        validation=validation,
        measure=measure,
        targets=targets,
        ignore=ignore,
        loss=loss,
        checkpoint=_checkpoint(checkpoint),
        inplace=inplace,
        seed=seed,
        progress=shown,
        logger=logger,
    )
    run = open_prune(model, data, config)
    return perform(run, scorer, check=_check(evaluation, loss))


def refit(
    model: nn.Module,
    data: Data,
    masks: Masks,
    *,
    fisher: Fisher = Fisher(),
    quadratic: Quadratic = Quadratic(),
    stages: Stages = Stages(),
    validation: int | None = None,
    evaluation: Data | None = None,
    loss: LossLike = None,
    inplace: bool = False,
    seed: int = 0,
    progress: ProgressLike = None,
) -> PruneResult:
    """Give the weights that a mask keeps their best values: the back-solve on a fixed support.

    Args:
        model: the network **before** the mask: its weights are w̄.
        data: calibration samples, as for `prune`.
        masks: which weights are kept; see `read_masks` for the files that are read. Tensors
            without a mask are left untouched.
        fisher: as for `prune`, and so are all arguments from here on.
        quadratic: see `prune`.
        stages: only its `bn_recalibrate` has a part.
        validation: see `prune`.
        evaluation: see `prune`.
        loss: see `prune`.
        inplace: see `prune`.
        seed: see `prune`.
        progress: see `prune`.

    Raises:
        InputError: the masks do not fit, or the weights outside them are zero already, so that
            nothing would change.
        CheckpointError: the file holds no masks.
        NumericalError: as for `prune`.

    Of two inputs that are always equal, the weight that stays takes over what the other did:

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
    >>> data = (torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[5.0], [5.0]]))
    >>> result = refit(
    ...     layer,
    ...     data,
    ...     {"weight": torch.tensor([[True, False]])},
    ...     loss="mse",
    ...     validation=0,
    ...     quadratic=Quadratic(ridge="0.001x", first_order=0, step_size=1),
    ... )
    >>> [round(weight, 2) for weight in result.model.weight[0].tolist()]
    [3.0, 0.0]
    """
    shown = progress_of(progress)
    scorer = _scorer(evaluation, loss, shown)
    config = PruneConfig(
        solver=BSO(),
        fisher=fisher,
        quadratic=quadratic,
        stages=stages,
        validation=validation,
        loss=loss,
        seed=seed,
        inplace=inplace,
        progress=shown,
    )
    run = open_refit(model, data, masks, config)
    return perform(run, scorer, check=_check(evaluation, loss))


def apply_masks(
    model: nn.Module,
    masks: Masks,
    *,
    evaluation: Data | None = None,
    loss: LossLike = None,
    inplace: bool = False,
    progress: ProgressLike = None,
) -> PruneResult:
    """Set to zero what a mask removes and change nothing else.

    Args:
        model: any network with tensors of those names and shapes.
        masks: as for `refit`.
        evaluation: as for `prune`.
        loss: by which it is measured, as for `prune`.
        inplace: see `prune`.
        progress: see `prune`.

    Raises:
        InputError: the masks do not fit, or the evaluation data cannot be used.
        CheckpointError: the file holds no masks.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.fill_(3.0)
    >>> apply_masks(layer, {"weight": torch.tensor([[True, False]])}).model.weight.tolist()
    [[3.0, 0.0]]
    """
    shown = progress_of(progress)
    scorer = _scorer(evaluation, loss, shown)
    config = PruneConfig(solver=Magnitude(), inplace=inplace, progress=shown)
    return perform(open_apply(model, masks, config), scorer, check=_check(evaluation, loss))


@own_modes()
def perform(
    run: Run,
    scorer: Scorer | None = None,
    *,
    dense: Score | None = None,
    check: Callable[[nn.Module], object] = lambda _: None,
) -> PruneResult:
    """Prune gradually, layer by layer or in stages; measure the network as it was and as it is.

    Both are measured at the end, where what the data show to be unusable was refused by the first
    steps of the work. Seconds by phase are then also those of `evaluate`, of all `other` steps, and
    of all together, `total`.

    Args:
        run: opened, so all that can be refused without data was refused.
        scorer: None measures nothing.
        dense: what the network measures, where that is known.
        check: measures a network on a few samples, and raises where it cannot be measured.
    """
    began, checkpoint = time.perf_counter(), run.config.checkpoint
    if checkpoint is not None and checkpoint.path.exists():
        run.checkpoint_file(run.network)  # refuses one that is not to be gone on from
    with run.restored_on_error() as before:
        if scorer is not None:
            check(run.model)
        result = _work(run)
        if scorer is not None:
            result = _measured(run, result, before, scorer, dense)
    if checkpoint is not None:
        checkpoint.path.unlink(missing_ok=True)  # all is done, the measuring too
    seconds = {"open": run.opening, **result.seconds}
    total = run.opening + time.perf_counter() - began
    return result.described(seconds=with_total(seconds, total))


def _measured(
    run: Run, result: PruneResult, before: State, scorer: Scorer, dense: Score | None
) -> PruneResult:
    """Return the result with what the network measures, and what it did `before`."""
    began = time.perf_counter()
    pruned = scorer(result.model, "pruned")
    if dense is None:
        with at_state(run.network, changed_since(run.network, before)):
            dense = scorer(run.model, "dense")
    spent = result.seconds.get("evaluate", 0.0) + time.perf_counter() - began
    return result.described(
        metric=dense.metric,
        dense_metric=dense.value,
        pruned_metric=pruned.value,
        evaluated=pruned.samples,
        evaluated_of=pruned.of,
        neighbours=pruned.neighbours,
        peak_rss_mb=peak_rss_mb(),
        seconds={**result.seconds, "evaluate": spent},
    )


def _work(run: Run) -> PruneResult:
    if isinstance(run.budget, MaxLoss):
        return run_max_loss(run, _work)
    if run.config.training is not None:
        return run_gradual(run, run.config.training)
    return run_layers(run) if run.layerwise else run_stages(run)


def _check(data: Data | None, loss: LossLike) -> Callable[[nn.Module], object]:
    """Return what raises where a network cannot be measured, if there are data."""
    return lambda network: None if data is None else check_evaluation(network, data, loss)


def _scorer(data: Data | None, loss: LossLike, progress: Progress) -> Scorer | None:
    """Return what measures as `chita.evaluate` does by the loss, None without data."""
    if data is None:
        return None
    return lambda network, name: evaluate(
        network, data, loss=loss, progress=Placed(progress, after=f" {name}".rstrip())
    )


def _checkpoint(checkpoint: Checkpoint | str | Path | None) -> Checkpoint | None:
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(cast(Path, checkpoint))
