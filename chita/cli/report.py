"""`chita report`: one page, and pictures, of what runs did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chita.cli import options as opt
from chita.cli.feedback import Feedback, LogFormat
from chita.errors import InputError, OutputError
from chita.reports.page import Report, make_report, write_page
from chita.reports.picture import write_picture
from chita.reports.runs import read_runs

Runs = Annotated[
    list[Path],
    typer.Argument(help="Run folders, record.json files, and results of sweeps (.jsonl)."),
]
Page = Annotated[Path, typer.Option("--out", help="Page to write, .html; it needs no other file.")]
Plots = Annotated[
    Path | None, typer.Option(help="Folder for every plot of the page, as PNG and as SVG.")
]
Title = Annotated[str | None, typer.Option(help="Title of the page.")]


def report(
    runs: Runs,
    out: Page,
    plots: Plots = None,
    title: Title = None,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Tell on one page what runs did, from their records alone; many runs are compared."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {out}; give a name that ends in .html.")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file in it, such as {out}/page.html.")
    if not out.parent.is_dir():
        raise OutputError(
            f"{out} could not be written: {out.parent} is no folder. Make it, or choose another "
            "--out."
        )
    feedback = Feedback(quiet=quiet, log_format=log_format)
    reading = read_runs(runs)
    for problem in reading.skipped:
        feedback.notice(f"Left out: {problem}")
    found = make_report(reading, title)
    write_page(found, out)
    feedback.notice(f"Written: {out}")
    if plots is not None:
        count = _write_plots(found, plots)
        feedback.notice(f"Written: {count} plots in {plots}")


def _write_plots(found: Report, folder: Path) -> int:
    """Write each chart twice, and return how many there are."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot hold plots: {error}. Choose another --plots.") from None
    for chart in found.charts:
        for kind in ("png", "svg"):
            write_picture([chart], folder / f"{chart.key}.{kind}")
    return len(found.charts)
