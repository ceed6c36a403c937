"""What a notebook shows of a record: sentences, a table, and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from chita.errors import InputError
from chita.records import LayerRecord, RunRecord
from chita.reports.chart import Chart
from chita.reports.of_one import charts_of, heat_of
from chita.reports.picture import picture_of
from chita.reports.runs import reported
from chita.reports.story import story_of
from chita.sensitivity_record import SensitivityRecord

_SHOWN = ("layers", "stages", "objective")  # charts, of all that the page has
_SIZE = 'style="display: block; width: 34em; max-width: 100%; height: auto"'
_ROWS = 60  # of a table, and of a plot, at most

Cells = Sequence[str]


def html_of(record: RunRecord) -> str:
    """Return a record as HTML, with plots where matplotlib is installed."""
    run = reported(record)
    story = story_of(run)
    return as_html(
        f"{record.model}, {record.command}: {record.solver}",
        [*story.lost, *story.gained, *story.more, *story.not_gained],
        ("layer", "weights", "kept", "removed %"),
        [*map(_layer, record.layers)],
        [chart for chart in charts_of(run) if chart.key in _SHOWN],
    )


def html_of_sensitivity(record: SensitivityRecord) -> str:
    """Return by how much the loss grows as HTML, with the heat map where matplotlib is."""
    samples = f"{record.held_out:,} validation samples"
    return as_html(
        f"{record.model}, sensitivity: {record.solver}",
        [
            f"Growth of the validation loss with one tensor pruned. {record.loss} of the dense "
            f"network is {record.dense_loss:.4g} on {samples}."
        ],
        ("tensor", "weights", *(f"{sparsity:g}" for sparsity in record.sparsities)),
        [*_growths(record)],
        [heat_of(record.levels)],
    )


def as_html(
    title: str,
    sentences: Sequence[str],
    head: Cells,
    rows: Sequence[Cells],
    charts: Sequence[Chart] = (),
) -> str:
    """Return a heading, a list, a table of the first rows, and charts; texts are escaped."""
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    charts = [chart for chart in charts if chart.rows <= _ROWS]
    try:
        pictures = [picture_of([chart], "svg").decode() for chart in charts]
    except InputError:
        pictures = []
    drawn = "".join(f"<svg {_SIZE}{picture.partition('<svg')[2]}" for picture in pictures)
    return f"<h4>{escape(title)}</h4><ul>{told}</ul>{_table(head, rows)}{drawn}"


def _table(head: Cells, rows: Sequence[Cells]) -> str:
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows[:_ROWS])
    left = len(rows) - _ROWS
    rest = f"<tr><td colspan={len(head)}>and {left} more</td></tr>" if left > 0 else ""
    return f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>{body}{rest}</tbody></table>"


def _cells(tag: str, cells: Cells) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)


def _layer(layer: LayerRecord) -> Cells:
    removed = f"{layer.removed:.2f}"
    return layer.name, f"{layer.weights:,}", f"{layer.kept:,}", removed


def _growths(record: SensitivityRecord) -> Iterator[Cells]:
    known = {(level.tensor, level.sparsity): f"{level.loss:+.2g}" for level in record.levels}
    for tensor in record.tensors:
        losses = (known.get((tensor.name, sparsity), "?") for sparsity in record.sparsities)
        yield tensor.name, f"{tensor.weights:,}", *losses
