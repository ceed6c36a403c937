"""What a pruning run returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.constraints.allocation import Levels
from chita.exports.export import Exported, export
from chita.exports.run_folder import write_run
from chita.layout import Layout
from chita.metrics import number
from chita.pruning.samples import Sampling
from chita.pruning.so_far import Staged
from chita.records import (
    LayerRecord,
    LevelRecord,
    RunRecord,
    SolvedRecord,
    TrainingRecord,
    peak_rss_mb,
    versions,
)
from chita.reports.notebook import html_of
from chita.solvers import Solver
from chita.solvers.named import solver_name, solver_options


@final
@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """A pruned network with its masks and its record.

    Fields: `model`; `masks`, name to boolean tensor, True = kept; `record`, see `RunRecord`.

    >>> import chita
    >>> result = chita.prune(nn.Linear(4, 2), sparsity=0.5, solver="magnitude")
    >>> result.record.nnz, int(result.masks["weight"].sum())
    (4, 4)
    """

    model: nn.Module
    masks: dict[str, Tensor]
    record: RunRecord

    @property
    def objective(self) -> float | None:
        """Q at the result; None where the method collects nothing."""
        return self.record.objective

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The counts of each prunable tensor."""
        return self.record.layers

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds by phase."""
        return self.record.seconds

    def __repr__(self) -> str:
        """One line: what was done, how sparse it is, and what it measures."""
        run = self.record
        told = f"{run.model}, {run.command} by {run.solver}: sparsity {run.sparsity:.4g}, "
        told += f"{run.nnz:,} of {run.prunable:,} weights kept"
        for name, value in (("dense", run.dense_metric), ("pruned", run.pruned_metric)):
            if run.metric is not None and value is not None:
                told += f"; {run.metric}, {name}: {number(run.metric, value)}"
        return f"PruneResult({told})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of(self.record)

    def described(self, **fields: Any) -> PruneResult:
        """Return the result with fields of its record replaced, such as measured metrics."""
        record = RunRecord.model_validate({**self.record.model_dump(), **fields})
        return replace(self, record=record)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a run folder: `model.safetensors`, `masks.safetensors`, `record.json`.

        Raises `OutputError` when it exists (and `force` is not set) or cannot be written.
        """
        write_run(Path(path), self.model, self.masks, self.record, force=force)

    def export(self, path: str | Path, to: str, **options: Any) -> Exported:
        """Write the network as a file of some kind; see `chita.export`, whose masks are known."""
        return export(self.model, path, to, masks=self.masks, **options)


def make_record(
    model: nn.Module,
    *,
    command: str,
    solver: Solver,
    staged: Staged,
    layout: Layout,
    levels: Levels | None,
    searching: float,
    sampling: Sampling,
    settings: dict[str, Any],
    solved: Mapping[str, SolvedRecord] | None = None,
    training: TrainingRecord | None = None,
) -> RunRecord:
    """Return the record of a run whose stages are done.

    `settings` are all options but those of the solver; `searching`, the
    seconds that the table of `levels` took, where there is one; `solved`, what came of each layer,
    where they were pruned one by one; `training`, of the epochs between events.
    """
    last = staged.records[-1]
    trained = {"train": sum(epoch.seconds for epoch in training.epochs)} if training else {}
    return RunRecord(
        command=command,
        solver=solver_name(solver),
        options=solver_options(solver),
        settings=settings,
        sparsity=last.sparsity,
        nnz=last.nnz,
        prunable=layout.size,
        ridge=last.ridge,
        first_order=last.first_order,
        step=last.step,
        fisher=staged.fisher,
        rows=staged.rows,
        row_size=sampling.fisher.samples_per_gradient if staged.rows else 0,
        held_out=staged.held_out,
        seed=sampling.seed,
        loss=staged.loss,
        objective=last.objective,
        lower_bound=staged.lower_bound,
        status=last.status,
        iterations=last.iterations,
        stages=tuple(staged.records),
        training=training,
        batch_norm=staged.batch_norm,
        layers=_layers(layout, staged.mask, staged.ways, solved or {}),
        levels=levels_of(levels or {}),
        flops=_flops(layout, staged.mask),
        dense_flops=_flops(layout, torch.ones_like(staged.mask)),
        seconds={**({"search": searching} if levels else {}), **staged.seconds, **trained},
        data_hash=staged.digest,
        model=type(model).__name__,
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
    )


def _layers(
    layout: Layout, mask: Tensor, ways: dict[str, str], solved: Mapping[str, SolvedRecord]
) -> tuple[LayerRecord, ...]:
    masks = layout.unflatten(mask).values()
    return tuple(
        LayerRecord(
            name=name,
            shape=tuple(part.shape),
            weights=part.numel(),
            kept=int(part.sum()),
            rows=ways.get(name),
            solved=solved.get(name),
            dead_outputs=int((~axes.by_output(part).any(1)).sum()),
            axes=(axes.output, axes.input, axes.groups),
        )
        for name, axes, part in zip(layout.names, layout.axes, masks, strict=True)
    )


def levels_of(levels: Levels) -> tuple[LevelRecord, ...]:
    """Return a table of levels, a record for each tensor and level, in their order."""
    return tuple(
        LevelRecord(tensor=name, sparsity=sparsity, loss=loss)
        for name, listed in levels.items()
        for sparsity, loss in listed
    )


def _flops(layout: Layout, mask: Tensor) -> int | None:
    """FLOPs of a sample with the weights of a mask, None where they were not counted."""
    operations = layout.operations
    if operations is None:
        return None
    kept = [int(mask[segment].sum()) for segment in layout.segments]
    used = sum(cost * count for cost, count in zip(operations.each, kept, strict=True))
    return 2 * (operations.fixed + used)
