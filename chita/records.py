"""What was run and what came out, as plain data: one JSON object, and all that reports may read."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from pydantic import BaseModel, ConfigDict

try:
    import resource
except ImportError:  # Windows has no such module; the peak is then unknown
    resource = None  # type: ignore[assignment]


class Record(BaseModel):
    """Base of records and their parts: fields that are fixed, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SolvedRecord(Record):
    """The outcome of one layer, where layers are pruned one by one.

    Fields:
        inputs: tokens or windows N that it saw.
        error: ‖XŴ - XW‖²/‖XW‖² on these, None where XW is zero.
        objective: its Q; ridge: λ as used; status: how the solver ended; seconds: of the solve;
            trace: Q at the start and after each iteration.
        skipped: why it was left dense, None where it was pruned.
        ridge_raised: whether a system could not be solved with λ as asked for, and it was raised.
    """

    inputs: int
    error: float | None = None
    objective: float | None = None
    ridge: float | None = None
    status: str | None = None
    seconds: float = 0.0
    trace: tuple[float | None, ...] = ()
    skipped: str | None = None
    ridge_raised: bool = False


class TensorRecord(Record):
    """One prunable tensor: its `name`, `shape` and number of `weights`."""

    name: str
    shape: tuple[int, ...]
    weights: int


class LayerRecord(TensorRecord):
    """One prunable tensor of a run, and how many of its weights are `kept`.

    `dead_outputs` counts outputs (rows of a linear layer, channels of a convolution) of which no
    weight is kept. `backend` is how its gradients were computed (factored, rule, vmap, loop),
    None where none were collected; `solved`, what came of it by itself, where layers were pruned
    one by one; `axes`, the dimensions of outputs and inputs, and the number of groups (`Axes`).
    """

    kept: int
    dead_outputs: int
    backend: str | None = None
    solved: SolvedRecord | None = None
    axes: tuple[int, int, int] | None = None

    @property
    def removed(self) -> float:
        """Per cent of its weights that are not kept."""
        return 100 * (1 - self.kept / self.weights) if self.weights else 0.0


class TrialRecord(Record):
    """One try of what "auto" chooses, with the `loss` on validation samples.

    That of weights, or of a network after the first `stages` of a pilot run.
    """

    ridge: float
    first_order: float
    step_size: float
    structure: str = "full"
    loss: float | None
    stages: int = 0


class StageRecord(Record):
    """One stage: gradients at the weights it found, one problem, one solve.

    Fields:
        sparsity, nnz: as counted after it.
        objective: Q at its result; ridge, first_order, step_size: λ, s and τ as used; structure:
            "full", or "outputs" where H was zero between outputs; all None where
            nothing was collected.
        lower_bound: as in `RunRecord`, of this stage.
        loss_before, validation_loss: mean loss on validation samples, at the weights that the
            stage began with and at those it found; with batch norms that may be estimated again the
            lower one, of the statistics they have and of those of these samples (`batch_norm` has
            those of the network in the end). None without validation samples.
        predicted: of the change between these, by the gradients a_i themselves:
            mean(a_i·δ) + ½ mean((a_i·δ)²). Not Q, which has λ in it, and rows that are divided by
            how wrong the network is. None where nothing was collected.
        increases: by tensor, ½ mean((a_i·δ)²) of its own change δ only: what it costs by that
            model, the gradient left out; empty where nothing was collected.
        trials: what was tried to choose these; empty where they were given.
        status, iterations: how the solver ended.
        trace: Q at the start and after each iteration, as the solver kept it, None where it was
            not finite.
        data_hash: SHA-256 of the samples of its gradients.
        seconds: wall clock by phase: collect, choose, solve, batch_norm; by layers also order.
        memory_mb: the peak of the process's resident memory by the end of each phase, in MB.
    """

    sparsity: float
    nnz: int
    objective: float | None = None
    ridge: float | None = None
    first_order: float | None = None
    step_size: float | None = None
    structure: str | None = None
    lower_bound: float | None = None
    loss_before: float | None = None
    validation_loss: float | None = None
    predicted: float | None = None
    increases: dict[str, float] = {}
    trials: tuple[TrialRecord, ...] = ()
    status: str
    iterations: int
    trace: tuple[float | None, ...] = ()
    data_hash: str | None = None
    seconds: dict[str, float]
    memory_mb: dict[str, float] = {}


class EpochRecord(Record):
    """One epoch of training between pruning events, the first being 1.

    Fields:
        sparsity: under which it trained; loss: the mean over its batches, in train mode.
        rate: the learning rate at its end; seconds: wall clock of training.
        metric: measured after it; pruned_metric: before it, where an event came before; None where
            nothing was measured.
    """

    epoch: int
    sparsity: float
    loss: float
    rate: float
    pruned_metric: float | None = None
    metric: float | None = None
    seconds: float


class TrainingRecord(Record):
    """The `epochs` of training, and why it was `stopped` early, None where it was not."""

    epochs: tuple[EpochRecord, ...]
    stopped: str | None = None


class LevelRecord(Record):
    """A level of sparsity that a `tensor` could have, and by how much the `loss` grew at it.

    The loss is the mean on validation samples, with this tensor pruned by itself.
    """

    tensor: str
    sparsity: float
    loss: float


class BatchNormRecord(Record):
    """Running statistics estimated again: from how many `samples`, in how many `layers`.

    `loss_before` and `loss_after` are those of the last stage's result on validation samples, or
    on some of these where batches are of few, in eval mode; None where there are none, or they are
    not finite. `taken` is false where that loss rose, is not finite, or is not known for batches
    of few samples, so that the statistics of before were kept.
    """

    layers: int
    samples: int
    loss_before: float | None = None
    loss_after: float | None = None
    taken: bool = True


class LossTrial(Record):
    """A sparsity that was tried, what was lost by it with its standard error, and the seconds.

    None where the measure is not finite; one group of samples has no standard error.
    """

    sparsity: float
    lost: float | None
    standard_error: float | None
    seconds: float


class SearchRecord(Record):
    """A search for the largest sparsity that loses `max_loss` at most of a `metric`.

    `unit`: points of an accuracy, or per cent; `samples`: of validation; `trials`: in their order.
    """

    max_loss: float
    unit: str
    metric: str
    samples: int
    trials: tuple[LossTrial, ...]


class RunRecord(Record):
    """One pruning run.

    Fields:
        command: prune, refit or apply; settings: as asked for, under the names of the options.
        solver, options: the solver's name and its fields.
        sparsity: share of the prunable weights removed, as counted; nnz: weights kept; prunable:
            weights that could be removed.
        ridge, first_order, step_size: λ, s and τ as used in the last stage, None where the solver
            needs no curvature.
        weighting: improved or empirical, None where nothing was collected.
        samples, samples_per_gradient: n and m of a stage, zero where nothing was collected;
            validation: number of validation samples.
        seed: of the draw, None where samples were named by their indices.
        loss: its name, None where nothing was collected.
        objective: Q at the result, None where nothing was collected; lower_bound: what Q is not
            below at any allowed mask, where it was asked for; status, iterations: how the
            solver ended; all three of the last stage; stages: every stage.
        training: the epochs between and after pruning events, None where none were trained.
        batch_norm: what estimating its statistics again did, None where that was not done.
        layers: the counts of each tensor, which sum to nnz and prunable.
        levels: the table of losses that a choice of levels by tensor was made from.
        search: for the sparsity, where what may be lost was given.
        flops, dense_flops: of one sample's forward pass, after and before, two for a multiply-add;
            None where they were not counted.
        seconds: wall clock by phase.
        data_hash: SHA-256 of the calibration samples of the rows, in order; of several stages,
            that of their hashes.
        model, data: what was pruned and with what, as named by the user.
        repeat: the command line that does the same again, None for a run from Python.
        metric, dense_metric, pruned_metric: the measure, before and after, where evaluated.
        evaluated, evaluated_of: samples that they were measured on, and that there are.
        neighbours: share of samples, in per cent, whose nearest other one is the same before and
            after, where embeddings were measured.
        dropped: tensors of the checkpoint that were dropped on loading.
        notes: lines on weights that were left out by no rule of the user's
            (`chita.models.prunable.notes_on`).
        peak_rss_mb: peak resident memory of the process; versions: of what computed it.
    """

    format: Literal[1] = 1
    command: str
    settings: dict[str, Any]
    solver: str
    options: dict[str, Any]
    sparsity: float
    nnz: int
    prunable: int
    ridge: float | None
    first_order: float | None
    step_size: float | None = None
    weighting: str | None = None
    samples: int
    samples_per_gradient: int
    validation: int = 0
    seed: int | None
    loss: str | None
    objective: float | None
    lower_bound: float | None = None
    status: str
    iterations: int
    stages: tuple[StageRecord, ...] = ()
    training: TrainingRecord | None = None
    batch_norm: BatchNormRecord | None = None
    layers: tuple[LayerRecord, ...]
    levels: tuple[LevelRecord, ...] = ()
    search: SearchRecord | None = None
    flops: int | None = None
    dense_flops: int | None = None
    seconds: dict[str, float]
    data_hash: str | None
    model: str
    data: str | None = None
    repeat: str | None = None
    metric: str | None = None
    dense_metric: float | None = None
    pruned_metric: float | None = None
    evaluated: int | None = None
    evaluated_of: int | None = None
    neighbours: float | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    peak_rss_mb: float | None
    versions: dict[str, str]

    @property
    def gap(self) -> float | None:
        """(objective - lower_bound)/|objective|: by what share Q could be lower at most."""
        if self.objective is None or self.lower_bound is None or self.objective == 0:
            return None
        return (self.objective - self.lower_bound) / abs(self.objective)


def finite(number: float | None) -> float | None:
    """Return a number for a record, where None stands for what is not finite: JSON has no NaN."""
    return number if number is not None and math.isfinite(number) else None


def known_values(record: BaseModel, names: Sequence[str]) -> dict[str, float]:
    """Return the numbers of a record under these names, without those that are not known."""
    found = ((name, getattr(record, name)) for name in names)
    return {name: float(value) for name, value in found if value is not None}


def with_total(seconds: Mapping[str, float], total: float) -> dict[str, float]:
    """Return seconds by phase, then those of all `other` steps, and of all together, `total`.

    >>> with_total({"solve": 3.0}, 4.0)
    {'solve': 3.0, 'other': 1.0, 'total': 4.0}
    """
    phases = {phase: took for phase, took in seconds.items() if phase not in ("other", "total")}
    return {**phases, "other": max(0.0, total - sum(phases.values())), "total": total}


def peak_rss_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10⁶ bytes), None where unknown."""
    try:  # Linux counts the peak of whoever started a process as its own, but not here
        status = Path("/proc/self/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)
    except (OSError, ValueError, IndexError):
        pass
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
