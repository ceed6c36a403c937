"""A figure of runs, for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from chita.errors import InputError
from chita.naming import nearest
from chita.records import RunRecord
from chita.reports.accuracy import dense_level, make_table
from chita.reports.comparison_charts import chart_of
from chita.reports.grouping import named_by_settings
from chita.reports.picture import figure_of
from chita.reports.runs import Reported, read_runs, reported

_NARROWEST = 2.0  # inches


@runtime_checkable
class Recorded(Protocol):
    """What has a record, such as the result of a run."""

    @property
    def record(self) -> RunRecord:
        """The record of the run."""


Plotted = Recorded | RunRecord | str | Path
"""A result, its record, or the path of a run folder, a record or the results of a sweep."""


def plot(
    records: Plotted | Sequence[Plotted],
    *,
    series: Sequence[str] | None = None,
    width: float = 5.6,
    against: str = "budget",
) -> Any:
    """Return a figure of matplotlib with the measure of runs against their budgets.

    A line for each setting, its points means over seeds with one standard deviation to each side;
    with one budget, points against seconds. The measure, and a sparsity, have logarithmic scales
    of what is missing or kept, which the labels say; the axis of budgets has ticks where runs are.

    Args:
        records: results, records, run folders, files of sweeps (.jsonl), or several of these.
        series: the names of lines to draw, in this order; all of them if None.
        width: in inches: 3.3 is a column of many papers. Letters have 8 points below 5.6, else 9.
        against: "budget", or "flops", the measured share of FLOPs that is left.

    Raises:
        InputError: there is no run with a measure, a name is not known, or matplotlib is missing.

    >>> plot("results.jsonl", series=["chita", "magnitude"], width=3.3).savefig("figure.pdf")
    ... # doctest: +SKIP
    """
    if not isinstance(width, (int, float)) or not width >= _NARROWEST:
        raise InputError(f"`width` is {width!r}; give inches, at least {_NARROWEST}.")
    several = [records] if isinstance(records, (str, Path, RunRecord, Recorded)) else [*records]
    runs, _ = named_by_settings([run for given in several for run in _read(given)])
    lines = [run.line for run in runs]
    table = make_table(lines, against)
    if not table.cells:
        raise InputError("No run has a measure. Give `evaluation` to `prune`, or other runs.")
    if series is not None:
        unknown = [name for name in series if name not in table.rows]
        if unknown:
            raise InputError(
                f"`series` names {unknown[0]!r}, which no line has. "
                f"{nearest(unknown[0], table.rows)}"
            )
        table = replace(table, rows=tuple(series))
    chart = chart_of(table, dense_level(lines))
    return figure_of(replace(chart, title=""), width)


def _read(given: Plotted) -> Sequence[Reported]:
    """Return the runs that something stands for."""
    if isinstance(given, (str, Path)):
        return read_runs([Path(given)]).runs
    record = given if isinstance(given, RunRecord) else getattr(given, "record", None)
    if not isinstance(record, RunRecord):
        raise InputError(
            f"`records` holds a {type(given).__name__}; give results, records or paths of runs."
        )
    return [reported(record)]
