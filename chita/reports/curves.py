"""Charts of a measure over the epochs of gradual pruning."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chita.errors import InputError
from chita.reports.accuracy import RunLine, column_of, dense_level, order_of, row_of
from chita.reports.chart import Axis, Chart, Series


def check_trained(trained: bool) -> None:
    """Raise `InputError` where no run is trained, so that there are no curves."""
    if not trained:
        raise InputError("There are no epochs to show: none of the runs has a table [training].")


def curves(lines: Sequence[RunLine]) -> tuple[Chart, ...]:
    """Return charts of means over seeds against epochs, one for each budget.

    A pruning event is a vertical stroke: the measure before it, and right after it. Runs without
    epochs are left out. Raises `InputError` where there are none.
    """
    trained = [line for line in lines if line.get("metric") and len(points_of(line)) > 1]
    check_trained(bool(trained))
    panels: dict[str, dict[str, list[RunLine]]] = {}
    for line in trained:
        rows = panels.setdefault(column_of(line), {})
        rows.setdefault(row_of(line["run"]), []).append(line)
    return tuple(
        Chart(
            key=f"epochs-{name}".replace(" ", "-").replace(":", "-"),
            title=f"Over the epochs, {name}",
            x=Axis(label="epochs", scale="count"),
            y=Axis(label=trained[0]["metric"]),
            series=tuple(c for row, runs in panels[name].items() for c in _curves(row, runs)),
            level=dense_level(trained),
        )
        for name in sorted(panels, key=order_of)
    )


def _curves(row: str, runs: Sequence[RunLine]) -> Iterator[Series]:
    """The mean of runs that were measured at the same epochs; others have lines of their own."""
    alike: dict[tuple[float, ...], list[list[float]]] = {}
    for run in runs:
        points = points_of(run)
        places = tuple(place for place, _ in points)
        alike.setdefault(places, []).append([value for _, value in points])
    for places, found in alike.items():
        values = list(zip(*found, strict=True))
        yield Series(
            name=row if len(alike) == 1 else f"{row}, {places[-1]:g} epochs",
            x=places,
            y=tuple(statistics.fmean(v) for v in values),
            spread=tuple(statistics.stdev(v) if len(v) > 1 else 0.0 for v in values),
        )


def points_of(line: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the points (epochs done, measure) of a run, from the dense network on.

    What was not measured has none.

    >>> epochs = [{"epoch": 1, "pruned_metric": 60.0, "metric": 80.0}]
    >>> points_of({"dense_metric": 90.0, "epochs": epochs})
    [(0.0, 90.0), (0.0, 60.0), (1.0, 80.0)]
    """
    if not line.get("epochs"):
        return []
    found = [(0.0, line.get("dense_metric"))]
    for epoch in line["epochs"]:
        found += [(epoch["epoch"] - 1.0, epoch["pruned_metric"]), (epoch["epoch"], epoch["metric"])]
    return [(float(place), float(value)) for place, value in found if value is not None]
