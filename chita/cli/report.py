"""`chita report`: one page, and pictures, of what runs did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chita.cli.console import stderr
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


def report(runs: Runs, out: Page, plots: Plots = None, title: Title = None) -> None:
    """Tell on one page what runs did, from their records alone; many runs are compared."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {out}; give a name that ends in .html.")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file in it, such as {out}/page.html.")
    reading = read_runs(runs)
    for problem in reading.skipped:
        stderr.print(f"Left out: {problem}", highlight=False, soft_wrap=True)
    found = make_report(reading, title)
    write_page(found, out)
    stderr.print(f"Written: {out}", highlight=False, soft_wrap=True)
    if plots is not None:
        count = _write_plots(found, plots)
        stderr.print(f"Written: {count} plots in {plots}", highlight=False, soft_wrap=True)


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
