"""A plot of a measure against sparsity."""

from __future__ import annotations

from pathlib import Path

from chita.errors import InputError
from chita.files import replacing
from chita.reports.accuracy import Table


def plot(table: Table, path: Path, *, dense: float | None = None) -> None:
    """Write a plot of a table's means, a line for each row, with a band of one deviation.

    The kind of picture is that of the file's name. Raises `InputError` without matplotlib, or
    when the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError("A plot needs matplotlib: pip install matplotlib.") from None
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in table.rows:
        columns = [c for c in table.columns if (row, c) in table.cells]
        x = [float(column.split()[-1]) for column in columns]
        cells = [table.cells[row, column] for column in columns]
        means = [cell.mean for cell in cells]
        spreads = [cell.spread or 0.0 for cell in cells]
        (line,) = axes.plot(x, means, marker="o", markersize=4, label=row)
        low = [m - s for m, s in zip(means, spreads, strict=True)]
        high = [m + s for m, s in zip(means, spreads, strict=True)]
        axes.fill_between(x, low, high, alpha=0.15, color=line.get_color())
    if dense is not None:
        axes.axhline(dense, color="grey", linestyle=":", label="dense")
    axes.set_xlabel(table.columns[0].split()[0] if table.columns else "")
    axes.set_ylabel(table.metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    try:
        with replacing(path) as draft:
            figure.savefig(draft, dpi=150, format=path.suffix.lstrip(".") or None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be written: {error}. Choose another --plot.") from None
