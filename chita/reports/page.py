"""One page of what runs did: a single file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from operator import itemgetter
from pathlib import Path
from typing import Any, final

from chita.errors import InputError, OutputError
from chita.files import replacing
from chita.metrics import number
from chita.records import versions
from chita.reports.accuracy import Line, column_of, pruning_seconds, row_of
from chita.reports.apart import told_apart
from chita.reports.chart import Chart
from chita.reports.interactive import figure_of
from chita.reports.of_many import comparison
from chita.reports.of_one import charts_of, heat_of
from chita.reports.runs import Reading, Reported
from chita.reports.story import comparison_story, story_of
from chita.sensitivity_record import SensitivityRecord

_PARTS = ("page.html", "page.css", "page.js")


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page shows.

    Fields: `title`; `reading`, the runs; `groups`, those that can be compared; `group_charts`, of
    each group that is a comparison; `heats`, of each table of sensitivities; `run_charts`, of each
    run.
    """

    title: str
    reading: Reading
    groups: tuple[tuple[Reported, ...], ...]
    group_charts: tuple[tuple[Chart, ...], ...]
    heats: tuple[Chart, ...]
    run_charts: tuple[tuple[Chart, ...], ...]

    @property
    def charts(self) -> list[Chart]:
        """All charts, each with a key of its own."""
        every = (*self.group_charts, self.heats, *self.run_charts)
        return [chart for own in every for chart in own]


def make_report(reading: Reading, title: str | None = None) -> Report:
    """Return what the page of some runs shows."""
    subjects: dict[tuple[str, ...], list[Reported]] = {}
    for run in reading.runs:
        subjects.setdefault(run.subject, []).append(run)
    apart = [told_apart(runs) for runs in subjects.values()]
    groups = tuple(tuple(runs) for runs, _ in apart)
    kept = {run.source: run for runs in groups for run in runs}
    reading = replace(
        reading,
        runs=tuple(kept[run.source] for run in reading.runs if run.source in kept),
        skipped=(*reading.skipped, *(problem for _, left in apart for problem in left)),
    )
    names = [*(run.name for run in reading.runs), *(name for name, _ in reading.tables)]
    shown = names[0] if len(names) == 1 else f"{len(names)} records"
    return Report(
        title=title or f"Pruning: {shown}",
        reading=reading,
        groups=groups,
        group_charts=tuple(
            _keyed(comparison(runs) if len(runs) > 1 else (), f"g{at}")
            for at, runs in enumerate(groups, 1)
        ),
        heats=tuple(_heat(at, *table) for at, table in enumerate(reading.tables, 1)),
        run_charts=tuple(_keyed(charts_of(run), f"r{at}") for at, run in _numbered(reading)),
    )


def _heat(at: int, name: str, record: SensitivityRecord) -> Chart:
    title = f"{name}: {record.model}, growth of the loss with each tensor pruned by itself"
    how = f"By {record.solver}; {record.loss} {record.dense_loss:.4g} before, on "
    heat = heat_of(record.levels).shown
    note = f"{how}{record.held_out:,} validation samples. {heat.note}"
    return replace(heat, key=f"s{at}-sensitivity", title=title, note=note)


def _numbered(reading: Reading) -> Iterator[tuple[int, Reported]]:
    return enumerate(reading.runs, 1)


def _keyed(charts: Sequence[Chart], place: str) -> tuple[Chart, ...]:
    return tuple(
        replace(chart.shown, key=re.sub(r"[^\w-]+", "-", f"{place}-{chart.key}"))
        for chart in charts
    )


def write_page(report: Report, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises `InputError` without Plotly or Jinja, `OutputError` when it cannot be written.
    """
    text = page_of(report)
    try:
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error}. Choose another file with `out`."
        ) from None


def page_of(report: Report) -> str:
    """Return a page as HTML. All that comes from runs is escaped.

    Raises `InputError` without Plotly or Jinja.
    """
    try:
        from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 (optional)
        from markupsafe import Markup  # noqa: PLC0415 (optional)
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError("A page needs Plotly and Jinja: pip install 'chita[report]'.") from None
    html, css, js = (_part(name) for name in _PARTS)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(html)
    figures = {chart.key: figure_of(chart) for chart in report.charts}
    return page.render(
        title=report.title,
        version=versions()["chita"],
        counted=_counted(report),
        skipped=report.reading.skipped,
        groups=[*_groups(report)],
        heats=report.heats,
        runs=[*_runs(report)],
        table=_table(report.reading),
        heights={key: figure["layout"]["height"] for key, figure in figures.items()},
        # No "<" at all, so that nothing in it ends the element or begins a comment.
        figures=Markup(_json(figures)),
        css=Markup(css),
        js=Markup(js),
        plotly=Markup(get_plotlyjs()),
    )


def _json(figures: dict[str, Any]) -> str:
    text = json.dumps(figures, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _part(name: str) -> str:
    return resources.files("chita.reports").joinpath("template", name).read_text(encoding="utf-8")


def _counted(report: Report) -> str:
    runs, groups = len(report.reading.runs), len(report.groups)
    tables = len(report.reading.tables)
    told = [f"{runs} run{'s' if runs > 1 else ''}"] if runs else []
    told += [f"{tables} table{'s' if tables > 1 else ''} of sensitivities"] if tables else []
    if groups > 1:
        return f"{' and '.join(told)}, of {groups} networks or data sets"
    return ", ".join([" and ".join(told), *([_subject(report.groups[0])] if runs == 1 else [])])


def _subject(runs: Sequence[Reported]) -> str:
    """What runs are of, in words."""
    metric, model, weights, data, loss, *form, prunable = runs[0].subject
    measured = metric and f"measured by {metric}"
    named = (model, weights and f"weights {weights}", data and f"on {data}", loss, *form)
    return ", ".join(filter(None, (*named, f"{int(prunable):,} prunable weights", measured)))


def _groups(report: Report) -> Iterator[dict[str, Any]]:
    for runs, charts in zip(report.groups, report.group_charts, strict=True):
        if len(runs) > 1:
            yield {"title": _subject(runs), "story": comparison_story(runs), "charts": charts}


def _runs(report: Report) -> Iterator[dict[str, Any]]:
    for (at, run), charts in zip(_numbered(report.reading), report.run_charts, strict=True):
        record = run.record
        yield {
            "key": f"run-{at}",
            "name": run.name,
            "story": story_of(run),
            "charts": charts,
            "layers": () if record is None else record.layers,
            "again": _again(run),
        }


def _again(run: Reported) -> dict[str, Any]:
    """How a run is done again, and what it was done with."""
    settings = _given(run.line["settings"])
    command = run.line.get("repeat")
    record = run.record
    facts: list[tuple[str, str]] = [("record", run.source)]
    versions = run.line.get("versions")
    if isinstance(versions, dict):
        facts += [(name, str(version)) for name, version in versions.items()]
    if record is not None:
        facts += [("data hash (SHA-256)", record.data_hash)] if record.data_hash else []
        facts += [("solver ended with", f"{record.status}, {record.iterations} iterations")]
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


@final
@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table of runs: its `name`, and whether it holds a `number`."""

    name: str
    number: bool = True


@final
@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry: its `text`, the `value` it is sorted by, and the `link` to its run."""

    text: str
    value: float | str
    number: bool = True
    link: str | None = None


def _table(reading: Reading) -> dict[str, Any]:
    """All runs, with what most people compare."""
    rows = []
    for at, run in _numbered(reading):
        words = (run.name, row_of(run.line["run"]), column_of(run.line))
        row = [Entry(text=word, value=word, number=False) for word in words]
        row[0] = replace(row[0], link=f"run-{at}")
        for find, form in _COLUMNS.values():
            value = find(run.line)
            text = "" if value is None else format(value, form) if form else _measure(run, value)
            row.append(Entry(text=text, value=_sorted(text, value)))
        rows.append(row)
    head = [Column(name=name, number=False) for name in ("run", "how", "budget")]
    return {"head": [*head, *(Column(name=name) for name in _COLUMNS)], "rows": rows}


def _sorted(text: str, value: float | None) -> float | str:
    """What an entry is sorted and filtered by: the number that it shows."""
    if value is None:
        return ""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return float(value)


def _measure(run: Reported, value: float) -> str:
    return number(run.metric or "", value)


def _share(line: Line) -> float | None:
    flops, dense = line.get("flops"), line.get("dense_flops")
    return None if flops is None or not dense else float(100 * flops / dense)


def _gap(line: Line) -> float | None:
    gap = line.get("gap")
    return None if gap is None else float(100 * gap)


_COLUMNS: Mapping[str, tuple[Callable[[Line], float | None], str]] = {
    "removed %": (lambda line: 100 * line["sparsity"], ".2f"),
    "kept": (itemgetter("nnz"), ",.0f"),
    "dense": (lambda line: line.get("dense_metric"), ""),
    "pruned": (lambda line: line.get("pruned_metric"), ""),
    "pruning, s": (pruning_seconds, ".1f"),
    "memory, MB": (lambda line: line.get("peak_rss_mb"), ",.0f"),
    "FLOPs left %": (_share, ".1f"),
    "objective Q": (lambda line: line.get("objective"), ".4g"),
    "gap %": (_gap, ".2f"),
}
"""What most people compare: how a line holds it, and how it is written (as the measure, if not)."""
