"""What a pruning run returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from chita.export.run_folder import write_run
from chita.layout import Layout
from chita.problem import LocalQuadratic
from chita.pruning.pose import Pose, solver_name, solver_options
from chita.pruning.samples import Drawn, Sampling
from chita.records import LayerRecord, RunRecord, peak_rss_mb, versions
from chita.solvers import Solution, Solver


@final
@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """A pruned network with its masks and its record.

    Fields: `model`; `masks`, name to boolean tensor, True = kept; `record`, see `RunRecord`.
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

    def described(self, **fields: Any) -> PruneResult:
        """Return the result with fields of its record replaced, such as measured metrics."""
        record = RunRecord.model_validate({**self.record.model_dump(), **fields})
        return replace(self, record=record)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a run folder: `model.safetensors`, `masks.safetensors`, `record.json`.

        Raises `OutputError` when it exists (and `force` is not set) or cannot be written.
        """
        write_run(Path(path), self.model, self.masks, self.record, force=force)


def make_record(
    model: nn.Module,
    *,
    command: str,
    solver: Solver,
    problem: LocalQuadratic | None,
    solution: Solution,
    layout: Layout,
    drawn: Drawn | None,
    ways: dict[str, str],
    sampling: Sampling,
    pose: Pose,
    settings: dict[str, Any],
    seconds: dict[str, float],
) -> RunRecord:
    """Return the record of a solved run; `problem` and `drawn` are None where none was collected.

    `ways` tells how the rows of each tensor were had; `settings` are those of the command that
    `sampling` and `pose` do not hold.
    """
    nnz = int(solution.mask.sum())
    asked = {**settings, **sampling.asked(), "ridge": pose.ridge, "first_order": pose.first_order}
    return RunRecord(
        command=command,
        settings={name: plain(value) for name, value in asked.items()},
        method=solver_name(solver),
        options=solver_options(solver),
        sparsity=1 - nnz / layout.size,
        nnz=nnz,
        prunable=layout.size,
        ridge=problem.ridge if problem else None,
        first_order=pose.first_order,
        rows=len(drawn.examples) // sampling.row_size if drawn else 0,
        row_size=sampling.row_size if drawn else 0,
        seed=sampling.seed if sampling.row_indices is None else None,
        loss=drawn.loss.name if drawn else None,
        objective=solution.objective if problem else None,
        lower_bound=solution.lower_bound,
        status=solution.status,
        iterations=solution.stats.iterations,
        layers=_layers(layout, solution.mask, ways),
        seconds=seconds,
        data_hash=drawn.digest if drawn else None,
        model=type(model).__name__,
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
    )


def _layers(layout: Layout, mask: Tensor, ways: dict[str, str]) -> tuple[LayerRecord, ...]:
    masks = layout.unflatten(mask).values()
    return tuple(
        LayerRecord(
            name=name,
            shape=tuple(part.shape),
            weights=part.numel(),
            kept=int(part.sum()),
            rows=ways.get(name),
            dead_outputs=int((~axes.by_output(part).any(1)).sum()),
        )
        for name, axes, part in zip(layout.names, layout.axes, masks, strict=True)
    )


def plain(value: Any) -> Any:
    """Return a setting as JSON can hold it: sequences as lists, other objects as their text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)
