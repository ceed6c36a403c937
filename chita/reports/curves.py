"""Plots of a measure over the epochs of gradual pruning."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chita.errors import InputError
from chita.reports.accuracy import Line, column_of, order_of, row_of
from chita.reports.figure import figure_of


def curves(lines: Sequence[Line], path: Path) -> None:
    """Write a plot of means over seeds against epochs, with a panel for each budget.

    A pruning event is a vertical stroke: the measure before it, and right after it. Runs without
    epochs are left out. Raises `InputError` where there are none, and as `figure_of` does.
    """
    trained = [line for line in lines if line.get("epochs") and line.get("metric")]
    if not trained:
        raise InputError("There are no epochs to show: none of the runs has a table [training].")
    panels: dict[str, dict[str, list[Line]]] = {}
    for line in trained:
        rows = panels.setdefault(column_of(line), {})
        rows.setdefault(row_of(line["run"]), []).append(line)
    names = sorted(panels, key=order_of)
    with figure_of(path, len(names)) as (_, axes):
        for panel, name in zip(axes, names, strict=True):
            for row, runs in panels[name].items():
                points = [points_of(run) for run in runs]
                x = [place for place, _ in points[0]]
                values = list(zip(*([y for _, y in own] for own in points), strict=True))
                mean = [statistics.fmean(v) for v in values]
                spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
                (drawn,) = panel.plot(x, mean, marker="o", markersize=3, label=row)
                panel.fill_between(
                    x,
                    [m - s for m, s in zip(mean, spread, strict=True)],
                    [m + s for m, s in zip(mean, spread, strict=True)],
                    alpha=0.15,
                    color=drawn.get_color(),
                )
            panel.axhline(trained[0]["dense_metric"], color="grey", linestyle=":", label="dense")
            panel.set_title(name)
            panel.set_xlabel("epochs")
            panel.legend(fontsize="small", loc="lower right")
        axes[0].set_ylabel(trained[0]["metric"])


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
