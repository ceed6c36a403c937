"""The table of a run's layers: equal blocks as one row, and the worst layers by name."""

from __future__ import annotations

from collections.abc import Sequence

from chita.records import LayerRecord, RunRecord
from chita.reports.layer_ranges import LayerRange, layer_ranges

_WORST = 5


def layer_table(record: RunRecord, *, every: bool) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table.

    The error is there where layers were pruned one by one. Of several layers in one row counts are
    sums, and shares go from the smallest to the largest.
    """
    layers = record.layers
    head = ["layer", "shape", "weights", "kept", "removed\n%", "dead\noutputs"]
    if any(layer.solved is not None for layer in layers):
        head.append("error\n%")
    ranges = _ranges(record, every=every)
    rows = [_row(own.label, [layers[i] for i in own.members]) for own in ranges]
    return head, [row[: len(head)] for row in rows]


def worst_layers(record: RunRecord, *, every: bool) -> list[str]:
    """Return one line that names the layers that lost most, where equal blocks hide them."""
    if len(_ranges(record, every=every)) == len(record.layers):
        return []
    errors = [(error, layer.name) for layer in record.layers if (error := _error(layer))]
    if errors:
        what, unit, found = "largest error", "%.3f", errors
    else:
        what, unit = "most removed", "%.2f"
        found = [(layer.removed, layer.name) for layer in record.layers]
    first = sorted(found, key=lambda pair: -pair[0])[:_WORST]
    listed = ", ".join(f"{name} {unit % value} %" for value, name in first)
    return [f"{what}: {listed}"]


def _ranges(record: RunRecord, *, every: bool) -> list[LayerRange]:
    """The layers of each row: equal ones share one, but not with those left dense."""
    alike = [(layer.shape, _left(layer)) for layer in record.layers]
    return layer_ranges([layer.name for layer in record.layers], alike, every=every)


def _row(name: str, layers: Sequence[LayerRecord]) -> list[str]:
    errors = [error for layer in layers if (error := _error(layer)) is not None]
    return [
        name,
        "x".join(map(str, layers[0].shape)),
        f"{sum(layer.weights for layer in layers):,}",
        f"{sum(layer.kept for layer in layers):,}",
        _range([layer.removed for layer in layers], "%.2f"),
        f"{sum(layer.dead_outputs for layer in layers):,}",
        "left dense" if _left(layers[0]) else _range(errors, "%.3f") if errors else "",
    ]


def _range(values: Sequence[float], form: str) -> str:
    low, high = form % min(values), form % max(values)
    return low if low == high else f"{low} to {high}"


def _left(layer: LayerRecord) -> bool:
    """Return whether a layer was left dense."""
    return bool(layer.solved and layer.solved.skipped)


def _error(layer: LayerRecord) -> float | None:
    """The error of a layer's outputs, in per cent."""
    error = layer.solved.error if layer.solved else None
    return None if error is None else 100 * error
