"""What a pruning run returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from chita.export.run_folder import write_run
from chita.layout import Layout
from chita.problem import LocalQuadratic
from chita.pruning.pose import solver_name, solver_options
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
    solver: Solver,
    problem: LocalQuadratic | None,
    solution: Solution,
    layout: Layout,
    data_hash: str | None,
    seconds: dict[str, float],
    rows: int,
    row_size: int,
    ridge_given: float | str,
    first_order: float,
    seed: int,
) -> RunRecord:
    """Return the record of a solved run; `problem` is None where nothing was collected."""
    nnz = int(solution.mask.sum())
    layers = tuple(
        LayerRecord(name=name, shape=tuple(mask.shape), weights=mask.numel(), kept=int(mask.sum()))
        for name, mask in layout.unflatten(solution.mask).items()
    )
    return RunRecord(
        method=solver_name(solver),
        options=solver_options(solver),
        sparsity=1 - nnz / layout.size,
        nnz=nnz,
        prunable=layout.size,
        ridge=problem.ridge if problem else None,
        ridge_given=ridge_given,
        first_order=first_order,
        rows=rows,
        row_size=row_size,
        seed=seed,
        objective=solution.objective if problem else None,
        status=solution.status,
        iterations=solution.stats.iterations,
        layers=layers,
        seconds=seconds,
        data_hash=data_hash,
        model=type(model).__name__,
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
    )
