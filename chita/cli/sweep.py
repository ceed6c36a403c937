"""`chita sweep`: many prunings of one file of settings, a line of JSON for each."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.live import Live
from rich.table import Table as Picture

from chita.cli import options as opt
from chita.cli.console import stderr, stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.grid import Run, key_of, read_grid
from chita.cli.prune import check_prune, prune_by
from chita.cli.settings import NetworkSettings, PruneSettings
from chita.errors import ChitaError, InputError, OutputError
from chita.files import replacing
from chita.progress import RUN_SECONDS_LEFT, track
from chita.reports.accuracy import Table, as_markdown, make_table
from chita.reports.curves import curves as curves_of
from chita.reports.picture import write_picture
from chita.reports.plot import chart_of
from chita.reports.summary import summary
from chita.training.evaluate import Score

_Show = Callable[[Table, dict[str, Any], float], None]

Grid = Annotated[
    Path,
    typer.Argument(help="TOML file: settings of `chita prune`, and lists of them under [sweep]."),
]
Lines = Annotated[
    Path,
    typer.Option("--out", help="File of results, one JSON object a line; runs in it are done."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Runs at a time, which share the threads that one run would use (OMP_NUM_THREADS). "
        "[default: one per core]",
    ),
]
Markdown = Annotated[
    Path | None, typer.Option("--table", help="Markdown file to write at the end.")
]
Against = Annotated[
    str,
    typer.Option(help="Columns: budget, or flops, the measured share of FLOPs that is left."),
]
Curves = Annotated[
    Path | None,
    typer.Option(help="Picture to write at the end: the measure over the epochs of training."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        help="Picture to write at the end: the measure against the columns, or where there is "
        "only one, against seconds."
    ),
]


def sweep(
    grid: Grid,
    out: Lines,
    jobs: Jobs = None,
    table: Markdown = None,
    plot: Plot = None,
    curves: Curves = None,
    against: Against = "budget",
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Prune by every combination of some settings; go on where an earlier sweep was stopped."""
    feedback = Feedback(quiet=quiet, log_format=log_format)
    make_table([], against)
    runs = read_grid(grid)
    for run in runs:
        check_prune(run.settings)
    lines = _read_lines(out)
    named = {run.key: run.varied for run in runs}
    keyed = ((key_of(line["settings"]), line) for line in lines)
    known = {key: {**line, "run": named[key]} for key, line in keyed if key in named}
    left = [run for run in runs if "error" in known.get(run.key, {"error": ""})]
    if len(left) < len(runs):
        feedback.notice(f"{len(runs) - len(left)} of {len(runs)} runs are done in {out}.")
    failed = _work_off(left, known, runs, out, jobs, feedback)
    found = make_table([known[run.key] for run in runs if run.key in known], against)
    stdout.print(_picture(found, ""))
    if table:
        _write(table, as_markdown(found))
    if plot:
        dense = next(
            (line["dense_metric"] for line in known.values() if "dense_metric" in line), None
        )
        write_picture([chart_of(found, dense=dense)], plot)
    if curves:
        write_picture(curves_of(list(known.values())), curves)
    if failed:
        raise ChitaError(
            f"{len(failed)} of {len(runs)} runs failed. The first: {failed[0]} The others are in "
            f"{out}; the same command tries those that failed again."
        )


def _work_off(
    left: Sequence[Run],
    known: dict[str, Any],
    runs: Sequence[Run],
    out: Path,
    jobs: int | None,
    feedback: Feedback,
) -> list[str]:
    """Do the runs, several at a time, and return the messages of those that failed."""
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(left)))
    failed: list[str] = []
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(
            jobs,
            mp_context=context,
            initializer=_begin,
            initargs=(max(1, torch.get_num_threads() // jobs),),
            max_tasks_per_child=1,  # so that a peak of memory is that of one run
        ) as pool,
        _shown(len(left), feedback) as show,
    ):
        try:
            waiting: dict[Future[dict[str, Any]], Run] = {}
            queue = list(left)
            while queue or waiting:
                while queue and len(waiting) < jobs:
                    run = queue.pop(0)
                    settings = run.settings.model_dump_json()
                    kept = _unfinished(out, run)
                    job = pool.submit(_pruned, settings, _dense(run, known), kept, feedback)
                    waiting[job] = run
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    run = waiting.pop(future)
                    line = {"run": run.varied, "settings": json.loads(run.key), **future.result()}
                    known[run.key] = line
                    _append(out, line)
                    failed += [line["error"]] if "error" in line else []
                    took = time.perf_counter() - began
                    open_ = len(queue) + len(waiting)
                    rest = took / (len(left) - open_) * open_
                    table = make_table([known[r.key] for r in runs if r.key in known])
                    show(table, line, rest)
        except BrokenProcessPool:
            raise ChitaError(
                "A process of the sweep was killed, perhaps for want of memory. The same command "
                f"goes on after the runs that are in {out}; with --jobs 1 it needs least."
            ) from None
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _begin(threads: int) -> None:
    """Compute with a share of the threads, and end when the sweep is killed."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _dense(run: Run, known: Mapping[str, Any]) -> Score | None:
    """What the network of a run measures, if a run of the same network on the same data told."""
    own = _measured(run.settings.model_dump(mode="json"))
    for line in known.values():
        if line.get("dense_metric") is not None and _measured(line["settings"]) == own:
            return Score(metric=line["metric"], value=line["dense_metric"], count=1)
    return None


def _measured(settings: Mapping[str, Any]) -> list[Any]:
    """Those settings that say what is measured, and on what."""
    return [settings.get(name) for name in NetworkSettings.model_fields]


def _unfinished(out: Path, run: Run) -> Path | None:
    """Where a run keeps its finished epochs; those without are short enough to begin anew."""
    if run.settings.training is None:
        return None
    own = hashlib.sha256(run.key.encode()).hexdigest()[:12]
    return out.with_name(f"{out.name}.{own}.unfinished")


def _pruned(
    settings: str, dense: Score | None, kept: Path | None, feedback: Feedback
) -> dict[str, Any]:
    """One run, in a process of its own."""
    began = time.perf_counter()
    asked = PruneSettings.model_validate_json(settings)
    alone = replace(feedback, quiet=True)  # runs at one time would talk at once
    try:
        with alone.heard():
            record = prune_by(asked, began=began, feedback=alone, dense=dense, kept=kept)
    except ChitaError as error:
        return {"error": str(error)}
    return summary(record)


@contextmanager
def _shown(runs: int, feedback: Feedback) -> Iterator[_Show]:
    """A live table on a terminal; anywhere else each run as values that progress is told.

    It is given the table, the line of the run that is done, and the seconds left.
    """
    done = 0
    if feedback.live:
        with Live(console=stderr, transient=True) as live:

            def draw(table: Table, _: dict[str, Any], left: float) -> None:
                nonlocal done
                done += 1
                live.update(_picture(table, f"{done} of {runs} runs, {left:.0f} s left"))

            yield draw
        return
    with track(feedback.progress(), "sweep", runs, "runs") as progress:

        def tell(_: Table, line: dict[str, Any], left: float) -> None:
            nonlocal done
            done += 1
            progress.advance(1)
            varied = ", ".join(f"{name} {value}" for name, value in line["run"].items())
            own = f"run {done} of {runs}: {varied}"
            measured = line.get("pruned_metric")
            if "error" in line:
                feedback.notice(f"{own}: {line['error']}")
            else:
                values = {} if measured is None else {"metric": measured}
                progress.tell(own, {**values, RUN_SECONDS_LEFT: left})

        yield tell


def _picture(table: Table, caption: str) -> Picture:
    picture = Picture(title=table.metric, caption=caption or None)
    names = {column.split()[0] for column in table.columns}
    picture.add_column(names.pop() if len(names) == 1 else "", no_wrap=True)
    for column in table.columns:
        picture.add_column(column.split()[-1], justify="right")
    for row in table.rows:
        cells = (table.cells.get((row, column)) for column in table.columns)
        picture.add_row(row, *("" if cell is None else str(cell) for cell in cells))
    return picture


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The runs of a file; a last line that was cut off is taken away."""
    try:
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) and {"run", "settings"} <= line.keys() for line in lines):
            raise ValueError("a line is no run of a sweep")
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot hold the results: {error}. Choose another --out."
        ) from None
    return lines


def _append(path: Path, line: dict[str, Any]) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error}. Free space.") from None


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as draft:
            draft.write_text(text)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error}. Choose another --table."
        ) from None
