"""Charts of a table's means: against the budget, or with one budget against seconds."""

from __future__ import annotations

from chita.metrics import is_accuracy
from chita.reports.accuracy import Table
from chita.reports.chart import Axis, Chart, Series


def chart_of(table: Table, *, dense: float | None = None) -> Chart:
    """Return a chart of a table's means: against the budget, or with one budget against seconds.

    Against the budget each row is a line. Against seconds each row is a point; rows that differ
    only in what was varied last are joined, and it is written beside. Error bars are one standard
    deviation to each side. What is missing from 100 per cent, and what a sparsity keeps, have
    logarithmic scales, and so has perplexity. Budgets that are no numbers (2:4) have no place on
    an axis and are left out.
    """
    alone = len(table.columns) == 1
    return Chart(
        key="seconds" if alone else "budget",
        title=table.columns[0] if alone else "What is kept at each budget",
        x=Axis(label="seconds", scale="log") if alone else _budget(table),
        y=measure_axis(table.metric),
        series=_against_time(table) if alone else _against_budget(table),
        level=None if dense is None else (dense, "dense"),
    )


def measure_axis(metric: str) -> Axis:
    """Return the axis of a metric, on which good results stand apart."""
    if is_accuracy(metric):
        return Axis(label=metric, scale="missing")
    return Axis(label=metric, scale="log" if metric == "perplexity" else "linear")


def _budget(table: Table) -> Axis:
    numbers = [c for c in table.columns if ":" not in c]
    budget = numbers[0].split()[0] if numbers else ""
    if table.against == "flops":
        return Axis(label="share of the dense FLOPs that is left")
    return Axis(label=budget, scale="kept" if budget == "sparsity" else "linear")


def _against_budget(table: Table) -> tuple[Series, ...]:
    numbers = [c for c in table.columns if ":" not in c]
    found = []
    for row in table.rows:
        columns = [c for c in numbers if (row, c) in table.cells]
        cells = [table.cells[row, column] for column in columns]
        found.append(
            Series(
                name=row,
                x=tuple(float(column.split()[-1]) for column in columns),
                y=tuple(cell.mean for cell in cells),
                spread=tuple(cell.spread or 0.0 for cell in cells),
            )
        )
    return tuple(found)


def _against_time(table: Table) -> tuple[Series, ...]:
    (column,) = table.columns
    lines: dict[str, list[str]] = {}
    for row in table.rows:
        lines.setdefault(row.rpartition(", ")[0], []).append(row)
    return tuple(
        Series(
            name=shared,
            x=tuple(table.cells[row, column].seconds for row in rows),
            y=tuple(table.cells[row, column].mean for row in rows),
            spread=tuple(table.cells[row, column].spread or 0.0 for row in rows),
            notes=tuple(row.rpartition(", ")[2] for row in rows),
            labelled=True,
        )
        for shared, rows in lines.items()
    )
