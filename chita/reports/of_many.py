"""The charts that compare runs of one network on one data set."""

from __future__ import annotations

from collections.abc import Sequence

from chita.metrics import more_is_better
from chita.reports.accuracy import Cell, Table, make_table
from chita.reports.chart import Axis, Chart, Series
from chita.reports.curves import curves
from chita.reports.plot import chart_of, measure_axis
from chita.reports.runs import Reported

_COLUMNS = 12  # of a comparison by layers at most


def comparison(runs: Sequence[Reported]) -> tuple[Chart, ...]:
    """Return the charts of runs that can be compared, those alone that have something to show."""
    lines = [run.line for run in runs]
    table = make_table(lines)
    charts: list[Chart | None] = []
    if table.cells:
        known = (line.get("dense_metric") for line in lines)
        dense = next((value for value in known if value is not None), None)
        numbered = _of_one_kind(table)
        if len(numbered.columns) > 1:
            charts.append(chart_of(numbered, dense=dense))
        charts.append(pareto(table, dense=dense))
        charts += [_of_field(table, "seconds"), _of_field(table, "memory")]
    if any(line.get("epochs") for line in lines) and table.cells:
        charts += curves(lines)
    layers = _layers(runs)
    return tuple(chart for chart in [*charts, layers] if chart is not None and chart.series)


def front_of(table: Table) -> list[tuple[str, str]]:
    """Return the places of a table that no other beats: as many weights removed, and as good.

    From fewest to most removed.
    """
    sign = 1 if more_is_better(table.metric) else -1
    found: list[tuple[str, str]] = []
    best = -float("inf")
    order = sorted(table.cells.items(), key=lambda item: (-item[1].removed, -sign * item[1].mean))
    for place, cell in order:
        if sign * cell.mean > best:
            best = sign * cell.mean
            found.append(place)
    return found[::-1]


def pareto(table: Table, *, dense: float | None) -> Chart:
    """Return the chart of all means against the share of weights removed, with their front."""
    front = [table.cells[place] for place in front_of(table)]
    best = Series(
        name="front: none is better with as much removed",
        x=tuple(cell.removed for cell in front),
        y=tuple(cell.mean for cell in front),
        aside=True,
    )
    clouds = []
    for row in table.rows:
        cells = [(c, table.cells[row, c]) for c in table.columns if (row, c) in table.cells]
        clouds.append(
            Series(
                name=row,
                x=tuple(cell.removed for _, cell in cells),
                y=tuple(cell.mean for _, cell in cells),
                spread=tuple(cell.spread or 0.0 for _, cell in cells),
                notes=tuple(_told(column, cell) for column, cell in cells),
                joined=False,
            )
        )
    return Chart(
        key="pareto", title="What is lost for what is removed",
        x=Axis(label="share of the weights removed", scale="kept"), y=measure_axis(table.metric),
        series=(best, *clouds), level=None if dense is None else (dense, "dense"),
        note="Mean over seeds, with one standard deviation to each side. The axes are stretched "
        "where good results lie.",
    )  # fmt: skip


def _told(column: str, cell: Cell) -> str:
    runs = f"{cell.count} seeds" if cell.count > 1 else "one run"
    return f"{column}, {runs}, {cell.seconds:.1f} s"


def _of_one_kind(table: Table) -> Table:
    """The columns of the budget that most columns are of, where it is told in numbers."""
    kinds = [column.split()[0] for column in table.columns if ":" not in column]
    most = max(dict.fromkeys(kinds), key=kinds.count, default="")
    columns = tuple(c for c in table.columns if c.split()[0] == most and ":" not in c)
    return Table(
        metric=table.metric, against=table.against, columns=columns, rows=table.rows,
        cells={place: cell for place, cell in table.cells.items() if place[1] in columns},
    )  # fmt: skip


def _of_field(table: Table, field: str) -> Chart | None:
    """The seconds, or the memory, of every row against what it removed."""
    label = {"seconds": "seconds of pruning", "memory": "peak memory, MB"}[field]
    note = {"memory": "Of the whole process: PyTorch, data and network are in it."}.get(field, "")
    rows = []
    for row in table.rows:
        cells = [table.cells[row, c] for c in table.columns if (row, c) in table.cells]
        cells = sorted((c for c in cells if getattr(c, field)), key=lambda cell: cell.removed)
        if cells:
            x = tuple(cell.removed for cell in cells)
            rows.append(Series(name=row, x=x, y=tuple(getattr(cell, field) for cell in cells)))
    if not rows:
        return None
    return Chart(
        key=field, title=label[0].upper() + label[1:], series=tuple(rows),
        x=Axis(label="share of the weights removed", scale="kept"),
        y=Axis(label=label, scale="log"), note=note,
    )  # fmt: skip


def _layers(runs: Sequence[Reported]) -> Chart | None:
    """What each run removed from each layer, where the records are those of one network."""
    every = [run for run in runs if run.record is not None]
    known = every[:_COLUMNS]
    note = f"The first {_COLUMNS} of {len(every)} runs." if len(every) > _COLUMNS else ""
    names = [[layer.name for layer in run.record.layers] for run in known if run.record]
    if len(known) < 2 or any(own != names[0] for own in names):
        return None
    rows = []
    for at, name in enumerate(names[0]):
        layers = [run.record.layers[at] for run in known if run.record]
        y = tuple(layer.removed for layer in layers)
        rows.append(Series(name=name, x=tuple(run.name for run in known), y=y))
    return Chart(
        key="layers", title="Per cent removed from each layer", kind="heat",
        x=Axis(label="run"), y=Axis(label="layer"), series=tuple(rows), note=note,
    )  # fmt: skip
