"""The result of a pruning run: the network, its masks and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from chita.constraints.allocation import Levels
from chita.exports.export import Exported, export
from chita.exports.run_folder import write_run
from chita.layout import Layout
from chita.metrics import number
from chita.records import (
    LayerRecord,
    LevelRecord,
    RunRecord,
    SolvedRecord,
)
from chita.reports.notebook import html_of


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
        """Q at the result; None where the solver collects nothing."""
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
        summary = f"{run.model}, {run.command} by {run.solver}: sparsity {run.sparsity:.4g}, "
        summary += f"{run.nnz:,} of {run.prunable:,} weights kept"
        for name, value in (("dense", run.dense_metric), ("pruned", run.pruned_metric)):
            if run.metric is not None and value is not None:
                summary += f"; {run.metric}, {name}: {number(run.metric, value)}"
        return f"PruneResult({'; '.join((summary, *run.notes))})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of(self.record)

    def described(self, **fields: Any) -> PruneResult:
        """Return the result with fields of its record replaced, such as measured metrics."""
        record = RunRecord.model_validate({**self.record.model_dump(), **fields})
        return replace(self, record=record)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a run folder: `model.safetensors`, `masks.safetensors`, `record.json`.

        Raises `OutputError` when it exists (and `force` is not set) or cannot be written, or when
        its files do not agree, as where training has filled zeros.
        """
        write_run(Path(path), self.model, self.masks, self.record, force=force)

    def export(self, path: str | Path, to: str, **options: Any) -> Exported:
        """Write the network as a file of some kind; see `chita.export`, whose masks are known."""
        return export(self.model, path, to, masks=self.masks, **options)


def layer_records(
    layout: Layout, mask: Tensor, backends: dict[str, str], solved: Mapping[str, SolvedRecord]
) -> tuple[LayerRecord, ...]:
    """Return the counts of every tensor under a mask (p,)."""
    masks = layout.unflatten(mask).values()
    return tuple(
        LayerRecord(
            name=name,
            shape=tuple(part.shape),
            weights=part.numel(),
            kept=int(part.sum()),
            backend=backends.get(name),
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


def flops(layout: Layout, mask: Tensor) -> int | None:
    """Return the FLOPs of a sample with the weights of a mask, None if they were not counted."""
    operations = layout.operations
    if operations is None:
        return None
    kept = [int(mask[segment].sum()) for segment in layout.segments]
    used = sum(cost * count for cost, count in zip(operations.each, kept, strict=True))
    return 2 * (operations.fixed + used)
