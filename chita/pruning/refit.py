"""A given mask: the best weights for it, or simply put on a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.constraints import FixedMasks
from chita.data.batches import Data
from chita.errors import InputError
from chita.losses import LossLike
from chita.masks.fit import Masks, fit_masks
from chita.models.wrappers import unwrapped
from chita.progress.shown import ProgressLike, progress_of
from chita.pruning.before_after import before_and_after, measure_by
from chita.pruning.job import Job
from chita.pruning.network import run_stages
from chita.pruning.pose import AUTO, Pose
from chita.pruning.result import PruneResult
from chita.pruning.samples import Sampling
from chita.solvers import BSO, Magnitude


def refit(
    model: nn.Module,
    data: Data,
    masks: Masks,
    *,
    evaluation: Data | None = None,
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
    inplace: bool = False,
    progress: ProgressLike = None,
) -> PruneResult:
    """Give the weights that a mask keeps their best values: the back-solve on a fixed support.

    Args:
        model: the network **before** the mask: its weights are w̄.
        data: calibration samples, as for `prune`.
        masks: which weights are kept; see `read_masks` for the files that are read. Tensors
            without a mask are left untouched.
        evaluation: as for `prune`.
        rows: as for `prune`, and so are all arguments from here on.
        row_size: see `prune`.
        rows_dtype: see `prune`.
        held_out: see `prune`.
        loss: see `prune`.
        labels: see `prune`.
        fisher: see `prune`.
        ridge: see `prune`.
        first_order: see `prune`.
        step: see `prune`.
        fisher_blocks: see `prune`.
        seed: see `prune`.
        row_indices: see `prune`.
        bn_recalibrate: see `prune`.
        inplace: see `prune`.
        progress: see `prune`.

    Raises:
        InputError: the masks do not fit, or the weights outside them are zero already, so that
            nothing would change.
        CheckpointError: the file holds no masks.
        NumericalError: as for `prune`.
    """
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    if first_order in (0, AUTO) and _nothing_to_do(network, fitted):
        raise InputError(
            "The weights that the mask removes are zero already, so refitting changes nothing. "
            "Give the network as it was before pruning."
        )
    job = Job(
        command="refit",
        choose=lambda _: layout,
        budget=FixedMasks(masks=fitted),
        solver=BSO(),
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
        settings={"mask": _source(masks)},
        bn_recalibrate=bn_recalibrate,
        inplace=inplace,
        progress=progress_of(progress),
    )
    score = measure_by(evaluation, loss, job.progress)
    return before_and_after(network, score, lambda: run_stages(network, data, job))


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
        progress: told of what is measured; see `prune`.

    Raises:
        InputError: the masks do not fit, or the evaluation data cannot be used.
        CheckpointError: the file holds no masks.
    """
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    job = Job(
        command="apply",
        choose=lambda _: layout,
        budget=FixedMasks(masks=fitted),
        solver=Magnitude(),
        sampling=Sampling(),
        pose=Pose(),
        settings={"mask": _source(masks)},
        inplace=inplace,
        progress=progress_of(progress),
    )
    score = measure_by(evaluation, loss, job.progress)
    return before_and_after(network, score, lambda: run_stages(network, None, job))


def _nothing_to_do(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    with torch.no_grad():
        return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items())


def _source(masks: Masks) -> str:
    return str(masks) if isinstance(masks, (str, Path)) else f"{len(masks)} tensors"
