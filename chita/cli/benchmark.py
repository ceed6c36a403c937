"""`chita benchmark`: what a run's zeros buy, in speed and in bytes."""

from __future__ import annotations

from pathlib import Path

from chita.cli.reopened import dense_of_run, open_run
from chita.cli.requests import BenchmarkRequest
from chita.errors import InputError, OutputError
from chita.files import replacing
from chita.progress.screen import stdout
from chita.reports.terminal import show_benchmark
from chita.runtimes.benchmark import benchmark as measure
from chita.runtimes.table import find_runtimes


def benchmark(request: BenchmarkRequest) -> None:
    """Measure, show the tables, and write them."""
    asked = request.benchmark
    find_runtimes(asked.runtime)
    if asked.out is not None:
        _check_results(asked.out, force=asked.force)
    session = open_run(asked.run, request.reopened, request.report)
    inputs = session.inputs(asked.batch)
    if inputs is None:
        raise InputError("There is nothing to call the network with. Name its data with `data`.")
    unpruned, name = dense_of_run(asked.run, request.reopened, asked.dense)
    found = measure(
        unpruned,
        session.network,
        inputs,
        runtimes=asked.runtime,
        layers=asked.layers,
        seconds=asked.seconds,
        name=name,
        progress=session.progress,
    )
    if asked.out is not None:
        with replacing(asked.out) as draft:
            draft.write_text(found.model_dump_json(indent=2) + "\n")
    if request.report.json:
        print(found.model_dump_json())
        return
    show_benchmark(found, stdout)
    if asked.out is not None:
        request.report.feedback.notice(f"Written: {asked.out}")


def _check_results(out: Path, *, force: bool) -> None:
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out} cannot be written: {out.absolute().parent} is no folder.")
    if out.is_dir() or (out.exists() and not force):
        raise OutputError(f"{out} exists. Choose another `out`; `force` replaces a file.")
