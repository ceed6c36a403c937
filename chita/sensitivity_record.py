"""What pruning each tensor by itself costs, as plain data: one JSON object."""

from __future__ import annotations

from typing import Any, Literal

from chita.records import LevelRecord, Record, TensorRecord


class SensitivityRecord(Record):
    """The growth of the loss with each tensor pruned by itself.

    Fields:
        command: sets this record apart from that of a run; settings: as asked for, under the names
            of the options.
        solver, options: the solver's name and its fields.
        model, data: what was measured and on what, as named by the user.
        seed: of the draw, None where samples were named by their indices.
        samples, samples_per_gradient: n and m, zero where nothing was collected; data_hash:
            SHA-256 of the samples, None where there are none; weighting: improved or empirical.
        validation: samples on which the loss was measured; loss: its name; dense_loss: its mean
            on them, of the network as it is.
        sparsities: at which tensors were measured, rising.
        tensors: in the order of the network.
        levels: for each tensor, in that order, sparsity 0, whose loss is 0, and those of the
            sparsities at which it could be solved and the loss was finite, rising.
        seconds: wall clock by phase.
        dropped: tensors of the checkpoint that were dropped on loading.
        peak_rss_mb: peak resident memory of the process; versions: of what computed it.
    """

    format: Literal[1] = 1
    command: Literal["sensitivity"] = "sensitivity"
    settings: dict[str, Any]
    solver: str
    options: dict[str, Any]
    model: str
    data: str | None = None
    seed: int | None
    samples: int
    samples_per_gradient: int
    data_hash: str | None
    weighting: str | None
    validation: int
    loss: str
    dense_loss: float
    sparsities: tuple[float, ...]
    tensors: tuple[TensorRecord, ...]
    levels: tuple[LevelRecord, ...]
    seconds: dict[str, float]
    dropped: tuple[str, ...] = ()
    peak_rss_mb: float | None
    versions: dict[str, str]
