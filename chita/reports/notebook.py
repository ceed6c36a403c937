"""Records as a notebook shows them: sentences, a table, and plots."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from chita.records import RunRecord
from chita.reports.chart import Chart
from chita.reports.html import rendered
from chita.reports.layer_table import layer_table
from chita.reports.run_charts import charts_of, heat_of
from chita.reports.runs import reported
from chita.reports.summary import summary_of
from chita.sensitivity_record import SensitivityRecord

_SHOWN = ("layers", "stages", "objective")  # charts, of all that the page has
_ROWS = 60  # of a table, and of a plot, at most


def html_of(record: RunRecord) -> str:
    """Return a record as HTML, with plots where matplotlib is installed."""
    run = reported(record)
    own = summary_of(run)
    return as_html(
        f"{record.model}, {record.command}: {record.solver}",
        [*own.lost, *own.gained, *own.more, *own.not_gained],
        *layer_table(record, every=False),
        [chart for chart in charts_of(run) if chart.key in _SHOWN],
    )


def html_of_sensitivity(record: SensitivityRecord) -> str:
    """Return the growth of the loss as HTML, with the heat map where matplotlib is installed."""
    samples = f"{record.validation:,} validation samples"
    heat = heat_of(record.levels)
    return as_html(
        f"{record.model}, sensitivity: {record.solver}",
        [
            f"Growth of the validation loss with one tensor pruned. {record.loss} of the dense "
            f"network is {record.dense_loss:.4g} on {samples}."
        ],
        *heat.numbers,
        [heat],
    )


def as_html(
    title: str,
    sentences: Sequence[str],
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    charts: Sequence[Chart] = (),
) -> str:
    """Return a heading, a list, a table of the first rows, and charts; texts are escaped."""
    drawn = find_spec("matplotlib") is not None
    return rendered(
        "notebook.html",
        title=title,
        sentences=sentences,
        head=head,
        rows=rows[:_ROWS],
        more=max(0, len(rows) - _ROWS),
        charts=[chart for chart in charts if drawn and chart.rows <= _ROWS],
    )
