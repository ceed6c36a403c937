"""What a notebook shows of a record: sentences, a table of layers, and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from chita.errors import InputError
from chita.records import LayerRecord, RunRecord
from chita.reports.of_one import charts_of
from chita.reports.picture import picture_of
from chita.reports.runs import reported
from chita.reports.story import story_of

_SHOWN = ("layers", "stages", "objective")  # charts, of all that the page has
_SIZE = 'style="display: block; width: 34em; max-width: 100%; height: auto"'
_LAYERS = 60  # in the table, and in a plot, at most


def html_of(record: RunRecord) -> str:
    """Return a record as HTML, with plots where matplotlib is installed."""
    run = reported(record)
    story = story_of(run)
    sentences = [*story.lost, *story.gained, *story.more, *story.not_gained]
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    charts = [chart for chart in charts_of(run) if chart.key in _SHOWN and chart.rows <= _LAYERS]
    try:
        pictures = [picture_of([chart], "svg").decode() for chart in charts]
    except InputError:
        pictures = []
    drawn = "".join(f"<svg {_SIZE}{picture.partition('<svg')[2]}" for picture in pictures)
    title = f"{record.model}, {record.command}: {record.method}"
    return f"<h4>{escape(title)}</h4><ul>{told}</ul>{_table(record.layers)}{drawn}"


def _table(layers: Sequence[LayerRecord]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("layer", "weights", "kept", "removed %"))
    rows = "".join(_rows(layers[:_LAYERS]))
    left = len(layers) - _LAYERS
    rest = f"<tr><td colspan=4>and {left} more</td></tr>" if left > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}{rest}</tbody></table>"


def _rows(layers: Sequence[LayerRecord]) -> Iterator[str]:
    for layer in layers:
        removed = f"{layer.removed:.2f}"
        cells = (escape(layer.name), f"{layer.weights:,}", f"{layer.kept:,}", removed)
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
