"""How sensitive a network is to each of its tensors alone being pruned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from chita.constraints.sparsity import check_share
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.exports.run_folder import write_sensitivity
from chita.layout import Layout
from chita.losses import LossLike
from chita.models.mode import evaluation_mode, without_cache
from chita.models.prunable import prunable_layout
from chita.models.wrappers import uncompiled, unwrapped
from chita.problem import GradientGram
from chita.progress import Progress, Silent
from chita.pruning.pose import Pose, make_solver, solver_name
from chita.pruning.result import levels_of, settings_of
from chita.pruning.samples import Sampling
from chita.pruning.search import Measured, measured
from chita.pruning.working_copy import copied
from chita.records import LevelRecord, peak_rss_mb, versions
from chita.reports.notebook import html_of_sensitivity
from chita.sensitivity_record import SensitivityRecord, TensorRecord
from chita.solvers import Solver

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Shares removed that are tried unless others are asked for."""


@final
@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """By how much the loss grows with each tensor alone pruned; see `SensitivityRecord`."""

    record: SensitivityRecord

    @property
    def levels(self) -> tuple[LevelRecord, ...]:
        """The growth at every level of every tensor, in the order of the network, rising."""
        return self.record.levels

    @property
    def dense_loss(self) -> float:
        """The mean loss of the network as it is, on the samples held out."""
        return self.record.dense_loss

    def __repr__(self) -> str:
        """One line: what was measured, and of how much."""
        run = self.record
        tried = ", ".join(f"{sparsity:g}" for sparsity in run.sparsities)
        told = f"{run.model} by {run.method}: {len(run.tensors)} tensors at sparsities {tried}; "
        return f"Sensitivity({told}{run.loss}, dense: {run.dense_loss:.4g})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of_sensitivity(self.record)

    def described(self, **fields: Any) -> Sensitivity:
        """Return the same with fields of its record replaced, such as the names of the data."""
        record = SensitivityRecord.model_validate({**self.record.model_dump(), **fields})
        return replace(self, record=record)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a folder with `record.json` and `levels.csv`; for a path PATH.csv the latter alone.

        `prune(..., per_layer=)` takes the table that `--per-layer PATH.csv` reads.

        Raises `OutputError` when it exists (and `force` is not set) or cannot be written.
        """
        write_sensitivity(Path(path), self.record, force=force)


@torch.inference_mode(False)
def sensitivity(
    model: nn.Module,
    data: Data,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    method: str | Solver = "chita",
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    rows: int | None = None,
    row_size: int = 1,
    rows_dtype: str | None = None,
    held_out: int | None = None,
    loss: LossLike = None,
    labels: str = "data",
    fisher: str = "auto",
    ridge: float | str = "auto",
    step: float | str = "auto",
    fisher_blocks: str = "auto",
    seed: int = 0,
    row_indices: Sequence[int] | None = None,
    bn_recalibrate: bool = True,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune each tensor alone to several sparsities, and measure by how much the loss grows.

    The loss is the mean over samples held out of the rows; see `chita.pruning.search.measured`.
    Losses of several tensors add up roughly, and only where little is removed.

    Args:
        model: a trained network, which is copied, and run in eval mode.
        data: as in `prune`, for methods that collect nothing, too: the loss is measured on them.
        sparsities: shares of a tensor removed, each in [0, 1), in any order.
        method: as in `prune`; not those that prune layer by layer alone.
        targets: as in `prune`.
        ignore: as in `prune`.
        rows: as in `prune`; the same rows serve all tensors.
        row_size: as in `prune`.
        rows_dtype: as in `prune`.
        held_out: samples that make no row, on which the loss is measured, and by which "auto"
            chooses; None as in `prune`.
        loss: as in `prune`.
        labels: as in `prune`.
        fisher: as in `prune`.
        ridge: as in `prune`; "auto" chooses once for each tensor, at the sparsity nearest to 0.912.
        step: as in `prune`.
        fisher_blocks: as in `prune`.
        seed: as in `prune`.
        row_indices: as in `prune`.
        bn_recalibrate: measure with the statistics of batch norms taken from the samples held out,
            where that lowers the loss.
        progress: told of rows and of levels.

    Returns:
        The growth of the loss at every level, also at sparsity 0, where it is 0, so that a choice
        among the levels may leave a tensor as it is.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: the loss of the network as it is, or its gradients, are not finite.
    """
    began = time.perf_counter()
    solver = make_solver(method, seed=seed)
    sampling = Sampling(
        rows=rows,
        row_size=row_size,
        rows_dtype=rows_dtype,
        held_out=held_out,
        loss=loss,
        labels=labels,
        fisher=fisher,
        seed=seed,
        row_indices=row_indices,
    )
    pose = Pose(ridge=ridge, first_order=0.0, step=step, fisher_blocks=fisher_blocks)
    tried = check_sensitivity(sparsities, solver, sampling, pose)
    network = unwrapped(model)
    layout = prunable_layout(network, targets, ignore)
    network = copied(network, "Give a network that copy.deepcopy copies.")
    with evaluation_mode(network), uncompiled(network), without_cache(network):
        found = measured(
            network,
            layout,
            as_examples(data) or data,
            sparsities=(0.0, *tried),
            solver=solver,
            sampling=sampling,
            pose=pose,
            bn_recalibrate=bn_recalibrate,
            progress=progress or Silent(),
        )
    asked = {"sparsities": tried, "targets": targets, "ignore": ignore}
    asked = settings_of(solver, sampling, pose, {**asked, "bn_recalibrate": bn_recalibrate})
    record = _record(network, layout, found, tried, sampling, asked, time.perf_counter() - began)
    return Sensitivity(record=record)


def check_sensitivity(
    sparsities: Iterable[float], solver: Solver, sampling: Sampling, pose: Pose
) -> tuple[float, ...]:
    """Return the sparsities above 0, rising.

    Raises `InputError` for what no network and no data could make usable.
    """
    try:
        listed = [*sparsities]
    except TypeError:
        raise InputError(
            f"sparsities is {sparsities!r}; give a list of shares removed, such as 0.5, 0.8 and "
            "0.9."
        ) from None
    for sparsity in listed:
        check_share(sparsity)
    twice = sorted({sparsity for sparsity in listed if listed.count(sparsity) > 1})
    if twice:
        raise InputError(f"sparsities has {', '.join(map(str, twice))} twice. Give each once.")
    rising = tuple(sorted(float(sparsity) for sparsity in listed if sparsity > 0))
    if not rising:
        raise InputError(f"sparsities is {listed!r}; give one above 0 at least, such as 0.8.")
    if not solver.takes(GradientGram):
        raise InputError(
            f"{solver_name(solver)} prunes layer by layer alone, and no tensor by itself. Take "
            "chita, magnitude or another method that `chita methods` does not list for layers only."
        )
    if sampling.held_out == 0:
        raise InputError(
            "held_out is 0, but the loss is measured on samples held out. Hold some out, or leave "
            "it to the data."
        )
    pose.settled(solver)
    return rising


def _record(
    network: nn.Module,
    layout: Layout,
    found: Measured,
    sparsities: tuple[float, ...],
    sampling: Sampling,
    asked: dict[str, Any],
    seconds: float,
) -> SensitivityRecord:
    drawn, fisher = found.drawn, None
    if drawn is not None:
        fisher = "improved" if drawn.improved else "empirical"
    tensors = zip(layout.names, layout.shapes, layout.counts, strict=True)
    return SensitivityRecord(
        method=asked.pop("method"),
        options=asked.pop("options"),
        settings=asked,
        model=type(network).__name__,
        seed=sampling.seed if sampling.row_indices is None else None,
        rows=found.rows,
        row_size=sampling.row_size if found.rows else 0,
        data_hash=drawn and drawn.digest,
        fisher=fisher,
        held_out=found.held_out,
        loss=found.loss,
        dense_loss=found.dense,
        sparsities=sparsities,
        tensors=tuple(TensorRecord(name=n, shape=s, weights=c) for n, s, c in tensors),
        levels=levels_of(found.levels),
        seconds={**found.seconds, "total": seconds},
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
    )
