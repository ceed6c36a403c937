"""`chita sweep`: many prunings of one run file, a line of JSON for each."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from chita.cli.feedback import Feedback, stdout
from chita.cli.grid import SweepRun, chosen, key_of, read_grid
from chita.cli.options import ReportOptions, SweepOptions
from chita.cli.prune import config_of, prune_by
from chita.cli.requests import EvaluateRequest, PruneRequest, SweepRequest
from chita.errors import ChitaError
from chita.files import check_file, write_text
from chita.progress import RUN_SECONDS_LEFT, Progress, track
from chita.pruning.opening import check_config
from chita.reports.accuracy import as_markdown, dense_level, make_table
from chita.reports.comparison_charts import chart_of
from chita.reports.curves import check_trained
from chita.reports.curves import curves as curves_of
from chita.reports.flat_record import flat_record
from chita.reports.lines import append_line, read_earlier, read_lines
from chita.reports.picture import check_picture, write_picture
from chita.reports.terminal import print_sweep
from chita.settings import leaves, request_of, settings_of
from chita.training.evaluate import Score
from chita.workers import each_done


def sweep(request: SweepRequest) -> None:
    """Do the runs that are not done, and show them all in a table."""
    asked, feedback = request.sweep, request.report.feedback
    every = read_grid(asked.grid)
    runs = chosen(every, asked.only)
    earlier = read_earlier(asked.compare) if asked.compare else []
    for run in runs:
        check_config(config_of(run.request))
    lines = read_lines(asked.out)
    if asked.table:
        check_file(asked.table, force=True)
    for picture in filter(None, (asked.plot, asked.curves)):
        check_picture(picture)
    check_trained(not asked.curves or any(run.request.training for run in runs))
    varied = {run.key: run.varied for run in runs}
    known = _known(lines, varied)
    left = [run for run in runs if "error" in known.get(run.key, {"error": ""})]
    if len(left) < len(runs):
        feedback.notice(f"{len(runs) - len(left)} of {len(runs)} runs are done in {asked.out}.")
    failed = _work_off(left, known, asked, feedback)
    found = make_table([known[run.key] for run in runs if run.key in known], asked.against)
    print_sweep(found, stdout)
    if asked.compare:
        known_then = _known(earlier, {run.key: run.varied for run in every})
        before = make_table([*known_then.values()], asked.against)
        print_sweep(found, stdout, before, str(asked.compare))
    if asked.table:
        write_text(asked.table, as_markdown(found))
    if asked.plot:
        write_picture([chart_of(found, dense_level(known.values()))], asked.plot)
    if asked.curves:
        write_picture(curves_of(list(known.values())), asked.curves)
    if failed:
        raise ChitaError(
            f"{len(failed)} of {len(runs)} runs failed. The first: {failed[0]} The others are in "
            f"{asked.out}; the same command tries those that failed again."
        )


def _known(lines: Iterable[dict[str, Any]], varied: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last line of each run of a sweep, by its key, with what it varies today."""
    keyed = ((key_of(line["settings"]), line) for line in lines)
    return {key: {**line, "run": varied[key]} for key, line in keyed if key in varied}


def _work_off(
    left: Sequence[SweepRun],
    known: dict[str, Any],
    asked: SweepOptions,
    feedback: Feedback,
) -> list[str]:
    """Do the runs, several at a time, and return the messages of those that failed."""
    report = ReportOptions(quiet=True, log_format="json" if feedback.json else "text")
    jobs = min(asked.jobs or os.cpu_count() or 1, max(1, len(left)))
    failed: list[str] = []
    began: dict[str, float] = {}
    took: list[tuple[SweepRun, float]] = []

    def arguments(run: SweepRun) -> tuple[Any, ...]:
        began[run.key] = time.perf_counter()
        return run.key, _dense(run, known), _unfinished(asked.out, run), report

    try:
        with (
            closing(each_done(left, _pruned, arguments, jobs)) as results,
            track(feedback.progress(), "sweep", len(left), "runs") as progress,
        ):
            waiting = list(left)
            for place, (run, outcome) in enumerate(results, start=1):
                waiting.remove(run)
                line = {"run": run.varied, "settings": json.loads(run.key), **outcome}
                known[run.key] = line
                append_line(asked.out, line)
                if "error" in line:
                    failed.append(line["error"])
                else:
                    took.append((run, time.perf_counter() - began[run.key]))
                rest = sum(expected_seconds(run, took) for run in waiting) / jobs
                _report(progress, feedback, line, f"run {place} of {len(left)}", rest)
    except BrokenProcessPool:
        raise ChitaError(
            "A process of the sweep was killed, perhaps for want of memory. The same command "
            f"goes on after the runs that are in {asked.out}; with --jobs 1 it needs least."
        ) from None
    return failed


def _dense(run: SweepRun, known: Mapping[str, Any]) -> Score | None:
    """Return the score of the dense network, if a run of it on the same data has measured it."""
    own, names = settings_of(run.request), {leaf.name for leaf in leaves(EvaluateRequest)}
    names -= {"seed"} if own["evaluate"] == "all" else set()
    for line in known.values():
        theirs = {"evaluate": "all", **line["settings"]}
        same = all(theirs.get(name) == own.get(name) for name in names)
        if same and line.get("dense_metric") is not None:
            return Score(metric=line["metric"], value=line["dense_metric"], count=1)
    return None


def expected_seconds(run: SweepRun, took: Sequence[tuple[SweepRun, float]]) -> float:
    """Return the mean seconds of the runs done that are most like one to come, 0 without any.

    Most alike are those of which the most options that the sweep varies have the same value, of
    one solver first.
    """

    def likeness(other: SweepRun) -> tuple[bool, int]:
        same = [name for name, value in run.varied.items() if other.varied.get(name) == value]
        return run.request.solver == other.request.solver, len(same)

    most = max((likeness(other) for other, _ in took), default=None)
    alike = [seconds for other, seconds in took if likeness(other) == most]
    return statistics.fmean(alike) if alike else 0.0


def _unfinished(out: Path, run: SweepRun) -> Path | None:
    """Return the file of finished epochs of a run; without training, it can begin again."""
    if run.request.training is None:
        return None
    own = hashlib.sha256(run.key.encode()).hexdigest()[:12]
    return out.with_name(f"{out.name}.{own}.unfinished")


def _pruned(
    settings: str, dense: Score | None, kept: Path | None, report: ReportOptions
) -> dict[str, Any]:
    """Do one run, in a process of its own; quiet, as runs at one time would talk at once."""
    request = replace(request_of(PruneRequest, json.loads(settings)), report=report)
    try:
        with report.feedback.heard():
            record = prune_by(request, dense=dense, kept=kept)
    except ChitaError as error:
        return {"error": str(error)}
    return flat_record(record)


def _report(
    progress: Progress, feedback: Feedback, line: Mapping[str, Any], name: str, left: float
) -> None:
    """Report the line of a run, which has a measure or says why not, and the seconds left."""
    progress.advance(1)
    own = f"{name}: {', '.join(f'{option} {value}' for option, value in line['run'].items())}"
    if "error" in line:
        feedback.notice(f"{own}: {line['error']}")
        return
    measured = line.get("pruned_metric")
    values = {} if measured is None else {line["metric"]: measured}
    progress.report(own, {**values, **({RUN_SECONDS_LEFT: left} if left else {})})
