"""Charts of a measure over the epochs of gradual pruning."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from chita.errors import InputError
from chita.reports.accuracy import Line, column_of, order_of, row_of
from chita.reports.chart import Axis, Chart, Series


def curves(lines: Sequence[Line]) -> tuple[Chart, ...]:
    """Return charts of means over seeds against epochs, one for each budget.

    A pruning event is a vertical stroke: the measure before it, and right after it. Runs without
    epochs are left out. Raises `InputError` where there are none.
    """
    trained = [line for line in lines if line.get("epochs") and line.get("metric")]
    if not trained:
        raise InputError("There are no epochs to show: none of the runs has a table [training].")
    panels: dict[str, dict[str, list[Line]]] = {}
    for line in trained:
        rows = panels.setdefault(column_of(line), {})
        rows.setdefault(row_of(line["run"]), []).append(line)
    return tuple(
        Chart(
            key=f"epochs-{name}".replace(" ", "-").replace(":", "-"),
            title=name,
            x=Axis(label="epochs"),
            y=Axis(label=trained[0]["metric"]),
            series=tuple(_curve(row, runs) for row, runs in panels[name].items()),
            level=(trained[0]["dense_metric"], "dense"),
        )
        for name in sorted(panels, key=order_of)
    )


def _curve(row: str, runs: Sequence[Line]) -> Series:
    points = [points_of(run) for run in runs]
    values = list(zip(*([y for _, y in own] for own in points), strict=True))
    return Series(
        name=row,
        x=tuple(place for place, _ in points[0]),
        y=tuple(statistics.fmean(v) for v in values),
        spread=tuple(statistics.stdev(v) if len(v) > 1 else 0.0 for v in values),
    )


def points_of(line: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the points (epochs done, measure) of a run, from the dense network on.

    >>> epochs = [{"epoch": 1, "pruned_metric": 60.0, "metric": 80.0}]
    >>> points_of({"dense_metric": 90.0, "epochs": epochs})
    [(0.0, 90.0), (0.0, 60.0), (1.0, 80.0)]
    """
    found = [(0.0, float(line["dense_metric"]))]
    for epoch in line["epochs"]:
        if epoch["pruned_metric"] is not None:
            found.append((epoch["epoch"] - 1.0, float(epoch["pruned_metric"])))
        found.append((float(epoch["epoch"]), float(epoch["metric"])))
    return found
