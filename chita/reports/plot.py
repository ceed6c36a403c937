"""Plots of a measure against sparsity, or against time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chita.reports.accuracy import Table
from chita.reports.figure import figure_of

_ROOM = 0.5  # per cent that the scale adds above 100, which has no logarithm of what is missing
_TICKS = (0, 20, 40, 50, 60, 70, 75, 80, 85, 88, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100)


def plot(table: Table, path: Path, *, dense: float | None = None) -> None:
    """Write a plot of a table's means: against the budget, or with one budget against seconds.

    Against the budget each row is a line, with a band of one deviation. Against seconds each row
    is a point; rows that differ only in what was varied last are joined, and it is written beside.
    What is missing from 100 per cent, and what a sparsity keeps, have logarithmic scales, and so
    has perplexity. Budgets that are no numbers (2:4) have no place on an axis and are left out.
    Raises `InputError` as `figure_of` does.
    """
    with figure_of(path) as (figure, (axes,)):
        draw = _against_time if len(table.columns) == 1 else _against_budget
        draw(axes, table)
        if dense is not None:
            axes.axhline(dense, color="grey", linestyle=":", label="dense")
        axes.set_ylabel(table.metric)
        if "per cent" in table.metric:
            _stretch(axes, table, dense)
        elif table.metric == "perplexity":
            axes.set_yscale("log")
            _plain_ticks(axes.yaxis)
        figure.legend(fontsize="small", loc="outside right upper")


def _stretch(axes: Any, table: Table, dense: float | None) -> None:
    """Give 1 per cent near 100 the room of 10 per cent near 0, so that good results stand apart."""
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415 (optional)

    def place(y: Any) -> Any:
        return -np.log10(np.maximum(_ROOM + 100 - np.asarray(y, dtype=float), 1e-9))

    axes.set_yscale("function", functions=(place, lambda t: _ROOM + 100 - 10.0**-t))
    spread = [(cell.mean, cell.spread or 0.0) for cell in table.cells.values()]
    values = [mean + side * by for mean, by in spread for side in (-1, 1)]
    low, high = max(0.0, min(values)), min(100.0, max(*values, dense or 0.0))
    room = 0.05 * (place(high) - place(low)) + 1e-3
    axes.set_ylim(low - 1, min(100.0, _ROOM + 100 - 10.0 ** -(place(high) + room)))
    ticks: list[float] = []
    for tick in (t for t in _TICKS if low - 1 <= t <= high):
        if not ticks or place(tick) - place(ticks[-1]) > room:
            ticks.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _against_budget(axes: Any, table: Table) -> None:
    numbers = [c for c in table.columns if ":" not in c]
    for row in table.rows:
        columns = [c for c in numbers if (row, c) in table.cells]
        x = [float(column.split()[-1]) for column in columns]
        cells = [table.cells[row, column] for column in columns]
        low = [cell.mean - (cell.spread or 0.0) for cell in cells]
        high = [cell.mean + (cell.spread or 0.0) for cell in cells]
        (line,) = axes.plot(x, [c.mean for c in cells], marker="o", markersize=4, label=row)
        axes.fill_between(x, low, high, alpha=0.15, color=line.get_color())
    budget = numbers[0].split()[0] if numbers else ""
    left = "share of the dense FLOPs that is left"
    axes.set_xlabel(left if table.against == "flops" else budget)
    if budget == "sparsity":  # what is kept has a logarithmic scale
        axes.set_xscale(
            "function", functions=(_times_removed, lambda t: 1 - 10.0 ** -np.asarray(t))
        )
        axes.set_xticks([float(column.split()[-1]) for column in numbers])
        axes.xaxis.set_major_formatter("{x:g}")


def _times_removed(sparsity: Any) -> Any:
    return -np.log10(np.maximum(1 - np.asarray(sparsity, dtype=float), 1e-6))


def _plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times powers of ten, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415 (optional)

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _against_time(axes: Any, table: Table) -> None:
    (column,) = table.columns
    lines: dict[str, list[tuple[str, Any]]] = {}
    for row in table.rows:
        shared, _, last = row.rpartition(", ")
        lines.setdefault(shared, []).append((last, table.cells[row, column]))
    for shared, points in lines.items():
        axes.errorbar(
            [cell.seconds for _, cell in points],
            [cell.mean for _, cell in points],
            yerr=[cell.spread or 0.0 for _, cell in points],
            marker="o",
            markersize=4,
            capsize=2,
            label=shared or None,
        )
        for last, cell in points:
            place = (cell.seconds, cell.mean)
            axes.annotate(last, place, (4, -9), textcoords="offset points", fontsize="x-small")
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_title(column)
