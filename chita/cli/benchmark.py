"""`chita benchmark`: what a run's zeros buy, in speed and in bytes."""

from __future__ import annotations

from functools import partial

from chita.cli.feedback import stdout
from chita.cli.reopened import dense_of_run, open_run
from chita.cli.requests import BenchmarkRequest
from chita.errors import InputError
from chita.files import check_file, write_text
from chita.reports.terminal import show_benchmark
from chita.runtimes.benchmark import benchmark as measure
from chita.runtimes.table import find_runtimes


def benchmark(request: BenchmarkRequest) -> None:
    """Measure, show the tables, and write them."""
    asked = request.benchmark
    find_runtimes(asked.runtime)
    if asked.out is not None:
        check_file(asked.out, force=asked.force)
    session = open_run(asked.run, request)
    inputs = session.inputs(asked.batch)
    if inputs is None:
        raise InputError("There is nothing to call the network with. Name its data with `data`.")
    unpruned, name = dense_of_run(request)
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
        write_text(asked.out, found.model_dump_json(indent=2) + "\n")
    table = partial(show_benchmark, found, stdout)
    request.report.show(found.model_dump_json(), table, written=asked.out)
