"""The charts that compare runs of one network on one data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chita.metrics import is_accuracy
from chita.reports.accuracy import Cell, Table, dense_level, make_table
from chita.reports.chart import Axis, Chart, Series
from chita.reports.curves import curves
from chita.reports.runs import Reported

_COLUMNS = 12  # of a comparison by layers at most


def comparison(runs: Sequence[Reported]) -> tuple[Chart, ...]:
    """Return the charts of runs that can be compared, if there is something to show."""
    lines = [run.line for run in runs]
    table = make_table(lines)
    charts: list[Chart | None] = []
    if table.cells:
        charts += _against_removed(table, dense_level(lines))
        if any(line.get("epochs") for line in lines):
            charts += curves(lines)
    return tuple(filter(None, [*charts, _layers(runs)]))


def chart_of(table: Table, level: tuple[float, str] | None = None) -> Chart:
    """Return a chart of a table's means: against the budget, or with one budget against seconds.

    Against the budget each row is a line. Against seconds each row is a point; rows that differ
    only in what was varied last are joined, and it is written beside. Error bars are one standard
    deviation to each side. What is missing from 100 per cent, and what a sparsity keeps, have
    logarithmic scales, and so has perplexity. Budgets that are no numbers (2:4) have no place on
    an axis and are left out.
    """
    one = len(table.columns) == 1
    return Chart(
        key="seconds" if one else "budget",
        title=table.columns[0] if one else "What is kept at each budget",
        x=Axis(label="seconds", scale="log") if one else _budget(table),
        y=_measure(table.metric),
        series=_against_time(table) if one else _against_budget(table),
        level=level,
    )


def _measure(metric: str) -> Axis:
    """The axis of a metric, on which good results stand apart."""
    if is_accuracy(metric):
        return Axis(label=metric, scale="missing")
    return Axis(label=metric, scale="log" if metric == "perplexity" else "linear")


def _budget(table: Table) -> Axis:
    if table.against == "flops":
        return Axis(label="share of the dense FLOPs that is left")
    budget = next((c.split()[0] for c in table.columns if ":" not in c), "")
    return Axis(label=budget, scale="kept" if budget == "sparsity" else "linear")


def _against_budget(table: Table) -> tuple[Series, ...]:
    numbers = {column: float(column.split()[-1]) for column in table.columns if ":" not in column}
    rows = {row: table.of_row(row) for row in table.rows}
    return tuple(
        _means(row, [(number, own[column]) for column, number in numbers.items() if column in own])
        for row, own in rows.items()
    )


def _against_time(table: Table) -> tuple[Series, ...]:
    cells = {row: cell for (row, _), cell in table.cells.items()}
    lines: dict[str, dict[str, Cell]] = {}
    for row in table.rows:
        shared, _, last = row.rpartition(", ")
        lines.setdefault(shared, {})[last] = cells[row]
    return tuple(
        _means(shared, [(cell.seconds, cell) for cell in own.values()], labels=tuple(own))
        for shared, own in lines.items()
    )


def _means(name: str, places: Sequence[tuple[float, Cell]], **look: Any) -> Series:
    """Means with their spreads, at the places of the cells on the axis."""
    spread = tuple(cell.spread or 0.0 for _, cell in places)
    return Series.of(name, [(place, cell.mean) for place, cell in places], spread=spread, **look)


def _against_removed(table: Table, level: tuple[float, str] | None) -> tuple[Chart, Chart]:
    """The charts of all means, and of all seconds, against the share of weights removed."""
    removed = Axis(label="share of the weights removed", scale="kept")
    rows = {}
    for row in table.rows:
        cells = sorted(table.of_row(row).values(), key=lambda cell: cell.removed)
        rows[row] = [(cell.removed, cell) for cell in cells]
    measures = Chart(
        key="measures", title="What is lost for what is removed",
        x=removed, y=_measure(table.metric), level=level,
        series=tuple(_means(row, own) for row, own in rows.items()),
        note="Mean over seeds, with one standard deviation to each side. The axes are stretched "
        "where good results lie.",
    )  # fmt: skip
    seconds = Chart(
        key="seconds", title="Seconds of pruning",
        x=removed, y=Axis(label="seconds", scale="log"),
        series=tuple(
            Series.of(row, [(place, cell.seconds) for place, cell in own])
            for row, own in rows.items()
        ),
    )  # fmt: skip
    return measures, seconds


def _layers(runs: Sequence[Reported]) -> Chart | None:
    """The share that each run removed from each layer, where all are of one network."""
    every = {run.name: run.record.layers for run in runs if run.record is not None}
    known = dict(list(every.items())[:_COLUMNS])
    names = {tuple(layer.name for layer in layers) for layers in known.values()}
    if len(known) < 2 or len(names) > 1:
        return None
    return Chart(
        key="layers", title="Per cent removed from each layer", kind="heat",
        x=Axis(label="run"), y=Axis(label="layer"),
        series=tuple(
            Series(name=own[0].name, x=tuple(known), y=tuple(layer.removed for layer in own))
            for own in zip(*known.values(), strict=True)
        ),
        note=f"The first {_COLUMNS} of {len(every)} runs." if len(every) > _COLUMNS else "",
    )  # fmt: skip
