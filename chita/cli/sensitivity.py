"""`chita sensitivity`: by how much the loss grows with each tensor alone pruned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import check_rows, open_session, tell_overruled
from chita.cli.settings import SensitivitySettings, merge_settings, pose_of
from chita.errors import InputError
from chita.exports.run_folder import check_sensitivity_target
from chita.pruning.pose import AUTO, make_solver
from chita.pruning.sensitivity import check_sensitivity
from chita.pruning.sensitivity import sensitivity as measure
from chita.records import peak_rss_mb
from chita.reports.of_one import heat_of
from chita.reports.picture import check_picture, write_picture
from chita.reports.shade import DARK, Shades
from chita.sensitivity_record import SensitivityRecord

_RED, _BLUE = (178, 24, 43), (33, 102, 172)  # of a loss that grows, and of one that falls
_FEW = ("standard", "windows")  # terminals of 16 colours, which have no shades

Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write: levels.csv, which --per-layer reads, and record.json; or a name in "
        ".csv for that table alone."
    ),
]
Force = Annotated[bool | None, typer.Option("--force", help="Replace --out if it exists.")]
Plot = Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf.")]


def sensitivity(
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    loss: opt.Loss = None,
    labels: opt.Labels = None,
    device: opt.Device = None,
    sparsities: opt.Sparsities = None,
    targets: opt.Targets = None,
    ignore: opt.Ignore = None,
    method: opt.Method = None,
    option: opt.Option = None,
    rows: opt.Rows = None,
    row_size: opt.RowSize = None,
    rows_dtype: opt.RowsDtype = None,
    held_out: opt.HeldOut = None,
    fisher: opt.Fisher = None,
    ridge: opt.Ridge = None,
    step: opt.Step = None,
    fisher_blocks: opt.FisherBlocks = None,
    seed: opt.Seed = None,
    row_indices: opt.RowIndices = None,
    bn_recalibrate: opt.BnRecalibrate = None,
    out: Out = None,
    force: Force = None,
    plot: Plot = None,
    config: opt.Config = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Prune each tensor alone to several sparsities, and show by how much the loss grows."""
    began = time.perf_counter()
    settings = merge_settings(SensitivitySettings, config, locals(), option or [])
    solver = make_solver(settings.method, settings.options, settings.seed)
    _check(settings)
    arguments = settings.row_arguments()
    del arguments["first_order"]
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_session(settings, feedback=feedback)
    if session.calibration is None:
        raise InputError(f"{settings.model} has no data of its own. Give them with --data.")
    tell_overruled(session, settings.targets, settings.ignore, feedback)
    found = measure(
        session.network,
        session.calibration,
        sparsities=settings.sparsities,
        method=solver,
        targets=settings.targets,
        ignore=settings.ignore,
        **arguments,
        loss=session.loss,
        progress=session.progress,
    )
    found = found.described(
        settings=settings.model_dump(mode="json"),
        model=settings.model,
        data=session.data,
        dropped=session.dropped,
        peak_rss_mb=peak_rss_mb(),
        seconds={**found.record.seconds, "total": time.perf_counter() - began},
    )
    if settings.out:
        found.save(settings.out, force=settings.force)
    if as_json:
        print(found.record.model_dump_json())
    else:
        _show(found.record)
    if settings.plot:
        write_picture([heat_of(found.record.levels)], settings.plot)
    for path in filter(None, (settings.out, settings.plot)):
        feedback.notice(f"Written: {path}")


def _check(settings: SensitivitySettings) -> None:
    """Raise `InputError` or `OutputError` for settings that no network and no data make usable."""
    solver = make_solver(settings.method, settings.options)
    if settings.first_order not in (AUTO, 0):
        raise InputError(
            f"first_order is {settings.first_order!r}, but that term trains, and has no part here. "
            "Leave it out."
        )
    check_sensitivity(settings.sparsities, solver, check_rows(settings), pose_of(settings))
    if settings.out:
        check_sensitivity_target(settings.out, force=settings.force)
    if settings.plot:
        check_picture(settings.plot)


def _show(record: SensitivityRecord) -> None:
    on = f" on {record.data}" if record.data else ""
    table = Table(title=f"{record.model}{on}: growth of the loss with one tensor pruned")
    table.add_column("tensor", overflow="fold")
    table.add_column("weights", justify="right", no_wrap=True)
    for sparsity in record.sparsities:
        table.add_column(f"{sparsity:g}", justify="right", no_wrap=True)
    known = {(level.tensor, level.sparsity): level.loss for level in record.levels}
    scale = Shades.of(level.loss for level in record.levels)
    for tensor in record.tensors:
        losses = [known.get((tensor.name, sparsity)) for sparsity in record.sparsities]
        cells = [_cell(loss, scale) for loss in losses]
        table.add_row(tensor.name, f"{tensor.weights:,}", *cells)
    stdout.print(table)
    samples = f"{record.held_out:,} samples held out"
    lines = [f"{record.loss} of the dense network {record.dense_loss:.4g} on {samples}"]
    if len(known) < len(record.tensors) * (1 + len(record.sparsities)):
        lines.append("?: no system could be solved there, or the loss was not finite")
    lines.append(", ".join(f"{name} {value:.2f} s" for name, value in record.seconds.items()))
    stdout.print("\n".join(lines), highlight=False)


def _cell(loss: float | None, scale: Shades) -> Text:
    """A number on the colour of its shade, which a file does not show."""
    if loss is None:
        return Text("?")
    shade = scale.shade(loss)
    return Text(
        f"{loss:+.2g}" if loss else "0", style=_style(shade, plain=stdout.color_system in _FEW)
    )


def _style(shade: float, *, plain: bool) -> str:
    dark = abs(shade) > DARK
    if plain:
        return ("bold " if dark else "") + ("red" if shade > 0 else "blue")
    full = _RED if shade > 0 else _BLUE
    red, green, blue = (round(255 + abs(shade) * (c - 255)) for c in full)
    return f"{'white' if dark else 'black'} on rgb({red},{green},{blue})"
