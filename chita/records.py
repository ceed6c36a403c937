"""What was run and what came out, as plain data: one JSON object, and all that reports may read."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy
import torch
from pydantic import BaseModel, ConfigDict

try:
    import resource
except ImportError:  # Windows has no such module; the peak is then unknown
    resource = None  # type: ignore[assignment]


class LayerRecord(BaseModel):
    """One prunable tensor: its `name`, `shape`, number of `weights` and how many are `kept`.

    `dead_outputs` counts outputs (rows of a linear layer, channels of a convolution) of which no
    weight is kept. `rows` is the way in which its gradients were had (factored, rule, vmap, loop),
    None where none were collected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    weights: int
    kept: int
    dead_outputs: int
    rows: str | None = None


class RunRecord(BaseModel):
    """One pruning run.

    Fields:
        command: prune, refit or apply; settings: as asked for, under the names of the options.
        method, options: the solver's name and its fields.
        sparsity: share of the prunable weights removed, as counted; nnz: weights kept; prunable:
            weights that could be removed.
        ridge: λ as used, None where the method needs no curvature.
        first_order: s; rows, row_size: n and m, zero where nothing was collected.
        seed: of the draw, None where samples were named by their indices.
        loss: its name, None where nothing was collected.
        objective: Q at the result, None where nothing was collected; lower_bound: what Q is not
            below at any allowed mask, where it was asked for; status, iterations: how the
            solver ended; stages: number of solves.
        layers: the counts of each tensor, which sum to nnz and prunable.
        seconds: wall clock by phase.
        data_hash: SHA-256 of the calibration samples used, in order.
        model, data: what was pruned and with what, as named by the user.
        metric, dense_metric, pruned_metric: the measure, before and after, where evaluated.
        dropped: tensors of the checkpoint that were dropped on loading.
        peak_rss_mb: peak resident memory of the process; versions: of what computed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    command: str
    settings: dict[str, Any]
    method: str
    options: dict[str, Any]
    sparsity: float
    nnz: int
    prunable: int
    ridge: float | None
    first_order: float
    rows: int
    row_size: int
    seed: int | None
    loss: str | None
    objective: float | None
    lower_bound: float | None = None
    status: str
    iterations: int
    stages: int = 1
    layers: tuple[LayerRecord, ...]
    seconds: dict[str, float]
    data_hash: str | None
    model: str
    data: str | None = None
    metric: str | None = None
    dense_metric: float | None = None
    pruned_metric: float | None = None
    dropped: tuple[str, ...] = ()
    peak_rss_mb: float | None
    versions: dict[str, str]

    @property
    def gap(self) -> float | None:
        """(objective - lower_bound)/|objective|: by what share Q could be lower at most."""
        if self.objective is None or self.lower_bound is None or self.objective == 0:
            return None
        return (self.objective - self.lower_bound) / abs(self.objective)


def peak_rss_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10⁶ bytes), None where unknown."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def versions() -> dict[str, str]:
    """Return the versions of what computes: chita, Python, torch, numpy, and the machine."""
    try:
        own = version("chita")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "chita": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
    }
