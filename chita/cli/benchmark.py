"""`chita benchmark`: what a run's zeros buy, in speed and in bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.export import Batch, Run
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.reopened import dense_of_run, inputs_for, open_run
from chita.errors import InputError, OutputError
from chita.files import replacing
from chita.runtimes.benchmark import benchmark as measure
from chita.runtimes.measured import Benchmark, Pair, Size
from chita.runtimes.table import RUNTIMES, find_runtimes

Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        help=f"{', '.join(RUNTIMES)}; may be repeated. [default: all that are installed]",
    ),
]
Layers = Annotated[
    bool, typer.Option("--layers/--no-layers", help="Whether every layer is measured alone, too.")
]
Seconds = Annotated[float, typer.Option(help="For which a network is measured in a runtime.")]
Dense = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint of the dense network. [default: the weights that the run began with]"
    ),
]
Results = Annotated[
    Path | None, typer.Option("--out", help="File for all that was measured, JSON.")
]

Force = Annotated[bool | None, typer.Option("--force", help="Replace the file --out.")]


def benchmark(
    run: Run,
    runtime: Runtimes = None,
    batch: Batch = 1,
    layers: Layers = True,
    seconds: Seconds = 2.0,
    dense: Dense = None,
    model: opt.Model = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    out: Results = None,
    force: Force = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Measure dense against pruned where they will run: one thread, side by side, and files."""
    given = {
        **{"model": model, "allow_pickle": allow_pickle, "data": data, "data_dir": data_dir},
        **{"image_size": image_size, "image_mean": image_mean, "image_std": image_std},
        "length": length,
    }
    find_runtimes(runtime)
    if batch < 1 or not seconds > 0:
        raise InputError(
            f"--batch is {batch} and --seconds {seconds}; give 1 or more samples, and a time above "
            "0."
        )
    if out is not None:
        _check_results(out, force=bool(force))
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_run(run, given, feedback)
    inputs = inputs_for(session, batch)
    if inputs is None:
        raise InputError("There is nothing to call the network with. Give its data with --data.")
    unpruned, name = dense_of_run(run, given, dense)
    found = measure(
        unpruned,
        session.network,
        inputs,
        runtimes=runtime,
        layers=layers,
        seconds=seconds,
        name=name,
        progress=session.progress,
    )
    if out is not None:
        with replacing(out) as draft:
            draft.write_text(found.model_dump_json(indent=2) + "\n")
    if as_json:
        print(found.model_dump_json())
        return
    _show(found)
    if out is not None:
        feedback.notice(f"Written: {out}")


def _check_results(out: Path, *, force: bool) -> None:
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out} cannot be written: {out.absolute().parent} is no folder.")
    if out.is_dir() or (out.exists() and not force):
        raise OutputError(f"{out} exists. Choose another --out; --force replaces a file.")


def _show(found: Benchmark) -> None:
    shapes = ", ".join("x".join(map(str, shape)) for shape in found.shapes.values())
    stdout.print(_whole(found, shapes))
    if found.layers:
        stdout.print(_layers(found))
    stdout.print(_files(found.sizes))
    for sentence in found.sentences:
        stdout.print(sentence, highlight=False, soft_wrap=True)
    loads = " and ".join("unknown" if load is None else f"{load:.2f}" for load in found.load)
    stdout.print(
        f"{found.processor}, one thread; load before and after: {loads}",
        highlight=False,
        soft_wrap=True,
    )


def _whole(found: Benchmark, shapes: str) -> Table:
    table = Table(title=f"{found.model} on {shapes}, median milliseconds of a call")
    table.add_column("runtime")
    for column in ("dense", "pruned", "dense / pruned", "quartiles of pruned"):
        table.add_column(column, justify="right")
    for runtime in found.runtimes:
        pair = runtime.pair
        if pair is None:
            table.add_row(runtime.name, "", "", "", "")
            continue
        quartiles = f"{_ms(pair.pruned.low)} to {_ms(pair.pruned.high)}"
        table.add_row(runtime.name, *_times(pair), f"{pair.speedup:.2f}", quartiles)
    return table


def _layers(found: Benchmark) -> Table:
    measured = [runtime for runtime in found.runtimes if runtime.layers]
    table = Table(title="every layer alone, dense / pruned")
    table.add_column("layer", overflow="fold")
    for column in ("shape", "zeros %", *(runtime.name for runtime in measured)):
        table.add_column(column, justify="right")
    for layer in found.layers:
        ratios = [r.layers.get(layer.name) for r in measured]
        shown = ["" if pair is None else f"{pair.speedup:.2f}" for pair in ratios]
        table.add_row(layer.name, "x".join(map(str, layer.shape)), f"{layer.zeros:.2f}", *shown)
    return table


def _files(sizes: tuple[Size, ...]) -> Table:
    table = Table(title="files, millions of bytes; zstd: compressed")
    table.add_column("file")
    for column in ("dense", "pruned", "dense, zstd", "pruned, zstd"):
        table.add_column(column, justify="right")
    for size in sizes:
        counts = (size.dense, size.pruned, size.dense_zstd, size.pruned_zstd)
        table.add_row(size.name, *("" if n is None else f"{n / 1e6:,.3f}" for n in counts))
    return table


def _times(pair: Pair) -> tuple[str, str]:
    return _ms(pair.dense.median), _ms(pair.pruned.median)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"
