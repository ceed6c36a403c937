"""The table of a run's layers: equal blocks as one line, and the worst layers by name."""

from __future__ import annotations

from collections.abc import Sequence

from chita.records import LayerRecord, RunRecord
from chita.reports.grouped import Line, lines_of

_WORST = 5


def layer_rows(record: RunRecord, *, every: bool) -> list[list[str]]:
    """Return the cells of every line: name, shape, weights, kept, removed, dead outputs, error.

    Of several layers in one line counts are sums, and shares go from the smallest to the largest.
    The error is there where layers were pruned one by one.
    """
    layers = record.layers
    return [
        _row(line, [layers[i] for i in line.members], solved(record))
        for line in _lines(record, every=every)
    ]


def solved(record: RunRecord) -> bool:
    """Return whether layers were pruned one by one."""
    return any(layer.solved is not None for layer in record.layers)


def worst_layers(record: RunRecord, *, every: bool) -> list[str]:
    """Return one line that names the layers that lost most, where equal blocks hide them."""
    if len(_lines(record, every=every)) == len(record.layers):
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


def _lines(record: RunRecord, *, every: bool) -> list[Line]:
    """The lines of the table: equal layers share one, but not with those left dense."""
    alike = [(layer.shape, _left(layer)) for layer in record.layers]
    return lines_of([layer.name for layer in record.layers], alike, every=every)


def _row(line: Line, layers: Sequence[LayerRecord], errors: bool) -> list[str]:
    cells = [
        line.label,
        "x".join(map(str, layers[0].shape)),
        f"{sum(layer.weights for layer in layers):,}",
        f"{sum(layer.kept for layer in layers):,}",
        _range([layer.removed for layer in layers], "%.2f"),
        f"{sum(layer.dead_outputs for layer in layers):,}",
    ]
    known = [error for layer in layers if (error := _error(layer)) is not None]
    if not errors:
        return cells
    return [*cells, "left dense" if _left(layers[0]) else _range(known, "%.3f") if known else ""]


def _range(values: Sequence[float], form: str) -> str:
    low, high = form % min(values), form % max(values)
    return low if low == high else f"{low} to {high}"


def _left(layer: LayerRecord) -> bool:
    """Whether a layer was left dense."""
    return bool(layer.solved and layer.solved.left)


def _error(layer: LayerRecord) -> float | None:
    """The error of a layer's outputs, in per cent."""
    error = layer.solved.error if layer.solved else None
    return None if error is None else 100 * error
