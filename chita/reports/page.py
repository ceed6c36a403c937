"""One page about runs: a single file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from chita.metrics import number
from chita.records import versions
from chita.reports.accuracy import column_of, flops_share, pruning_seconds, row_of
from chita.reports.chart import Chart
from chita.reports.comparison_charts import comparison
from chita.reports.grouping import named_by_settings
from chita.reports.html import rendered
from chita.reports.layer_table import layer_table
from chita.reports.run_charts import charts_of, heat_of
from chita.reports.runs import Reading, Reported
from chita.reports.summary import comparison_summary, summary_of
from chita.sensitivity_record import SensitivityRecord


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of a page.

    Fields: `title`; `skipped`, what is left out and why; `groups`, runs that can be compared, with
    the charts of each comparison; `heats`, of each table of sensitivities; `runs`, with the charts
    of each.
    """

    title: str
    skipped: tuple[str, ...]
    groups: tuple[tuple[Sequence[Reported], tuple[Chart, ...]], ...]
    heats: tuple[Chart, ...]
    runs: tuple[tuple[Reported, tuple[Chart, ...]], ...]

    @property
    def charts(self) -> list[Chart]:
        """All charts, each with a key of its own."""
        groups, runs = ([own for _, own in pairs] for pairs in (self.groups, self.runs))
        return [chart for own in (*groups, self.heats, *runs) for chart in own]


def make_report(reading: Reading) -> Report:
    """Return the content of the page of some runs."""
    subjects: dict[tuple[str, ...], list[Reported]] = {}
    for run in reading.runs:
        subjects.setdefault(run.subject, []).append(run)
    named = [named_by_settings(runs) for runs in subjects.values()]
    kept = {run.source: run for runs, _ in named for run in runs}
    sources = dict.fromkeys(run.source for run in reading.runs)  # each once
    runs = [kept[source] for source in sources if source in kept]
    names = [*(run.name for run in runs), *(name for name, _ in reading.tables)]
    shown = names[0] if len(names) == 1 else f"{len(names)} records"
    return Report(
        title=f"Pruning: {shown}",
        skipped=(*reading.skipped, *(problem for _, left in named for problem in left)),
        groups=tuple(
            (own, _keyed(comparison(own) if len(own) > 1 else (), f"g{at}"))
            for at, (own, _) in enumerate(named, 1)
        ),
        heats=tuple(_heat(at, *table) for at, table in enumerate(reading.tables, 1)),
        runs=tuple((run, _keyed(charts_of(run), f"r{at}")) for at, run in enumerate(runs, 1)),
    )


def _heat(at: int, name: str, record: SensitivityRecord) -> Chart:
    title = f"{name}: {record.model}, growth of the loss with each tensor pruned by itself"
    how = f"By {record.solver}; {record.loss} {record.dense_loss:.4g} before, on "
    heat = heat_of(record.levels).shown
    note = f"{how}{record.validation:,} validation samples. {heat.note}"
    return replace(heat, key=f"s{at}-sensitivity", title=title, note=note)


def _keyed(charts: Sequence[Chart], place: str) -> tuple[Chart, ...]:
    return tuple(
        replace(chart.shown, key=re.sub(r"[^\w-]+", "-", f"{place}-{chart.key}"))
        for chart in charts
    )


def page_of(report: Report) -> str:
    """Return a page as HTML. All that comes from runs is escaped.

    Raises `InputError` without matplotlib.
    """
    cells = [_cells(run) for run, _ in report.runs]
    return rendered(
        "page.html",
        report=report,
        version=versions()["chita"],
        columns=cells[0].keys() if cells else (),
        rows=[own.values() for own in cells],
        subject=_subject,
        summary=summary_of,
        compared=comparison_summary,
        layer_table=layer_table,
        again=_again,
    )


def _subject(runs: Sequence[Reported]) -> str:
    """Return the network, the data, the measure and the number of runs in words."""
    metric, model, weights, data, loss, *form, part, prunable = runs[0].subject
    measured = metric and f"measured by {metric}{part}"
    named = (model, weights and f"weights {weights}", data and f"on {data}", loss, *form)
    return ", ".join(filter(None, (*named, f"{int(prunable):,} prunable weights", measured)))


def _again(run: Reported) -> dict[str, Any]:
    """Return the command or settings that do a run again, and what it ran with."""
    settings = _given(run.line["settings"])
    command = run.line.get("repeat")
    record = run.record
    versions = run.line.get("versions") or {}
    facts = {"record": run.source, **versions}
    if record is not None:
        facts["data hash (SHA-256)"] = record.data_hash or "no data"
        facts["solver ended with"] = f"{record.status}, {record.iterations} iterations"
    if command:
        how = "From the folder that it ran in, this does the same again; --out keeps the result"
        how += f"{', in an environment as below' if versions else ''}:"
    elif record is not None and "model" not in settings:
        how = "This was called from Python, with these options, under the names of a run file:"
    else:
        how = "These settings, under the names of the options of chita prune:"
    command = command or "\n".join(f"{name} = {json.dumps(v)}" for name, v in settings.items())
    return {"how": how, "command": command, "facts": facts}


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are null, in their tables, too."""
    found = {name: v for name, v in settings.items() if v is not None}
    return {n: _given(v) if isinstance(v, Mapping) else v for n, v in found.items()}


def _cells(run: Reported) -> dict[str, str]:
    """Return the row of a run in the table of all, by column."""
    line, share, gap = run.line, flops_share(run.line), run.line.get("gap")
    dense, pruned = line.get("dense_metric"), line.get("pruned_metric")
    return {
        "run": run.name,
        "how": row_of(line["run"]),
        "budget": column_of(line),
        "removed %": f"{100 * line['sparsity']:.2f}",
        "kept": f"{line['nnz']:,.0f}",
        "dense": "" if dense is None else number(run.metric or "", dense),
        "pruned": "" if pruned is None else number(run.metric or "", pruned),
        "pruning, s": f"{pruning_seconds(line):.1f}",
        "memory, MB": _written(line.get("peak_rss_mb"), ",.0f"),
        "FLOPs left %": _written(share and 100 * share, ".1f"),
        "objective Q": _written(line.get("objective"), ".4g"),
        "gap %": _written(gap and 100 * gap, ".2f"),
    }


def _written(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
