"""Charts as pictures, by matplotlib: files such as PNG and SVG, and parts of a page."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chita.errors import InputError, OutputError, failures_as
from chita.files import check_file, replacing, writing
from chita.imports import optional
from chita.reports.chart import Axis, Chart
from chita.reports.shade import DARK, Shades

_WIDTH, _HEIGHT = 5.6, 3.4  # inches
_ROW = 0.22  # inches for a name beside the plot, or a line of the legend
_PAIRED = 32  # letters of the longest name at most, where a line of the legend has two
_TICKS = (1, 2, 3, 5, 7)  # of each power of ten
_MOST = {"kept": 1.0, "missing": 100.0}  # of which an axis shows how much is lacking
_INK = "#1c1e21"  # stands for the colour of a page's text
_BLACK = "#000001"  # on cells, whatever that is: SVG files leave out a plain black
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_ON_PAGE: Any = {
    **{"figure.facecolor": "none", "axes.facecolor": "none", "svg.fonttype": "none"},
    **dict.fromkeys(_INKED, _INK),
}
_LONG = 44  # letters of a name that are written
_MEASURED = 12  # ticks at most that stand where something was measured
_APART = 2.6  # sizes of a letter between two ticks at least
_FOLDED = 26  # letters of the name of an axis in a line
_DIRECT = 6  # lines at most whose names stand at their ends
_WRITTEN = 12  # columns at most whose cells have room for a number


def write_picture(charts: Sequence[Chart], path: Path) -> None:
    """Write charts side by side, whole or not at all.

    Raises `InputError` without matplotlib, `OutputError` when the file cannot be written.
    """
    with writing(path), replacing(path) as draft:
        draft.write_bytes(picture_of(charts, path.suffix.lstrip(".") or "png"))


def write_pictures(charts: Sequence[Chart], folder: Path) -> None:
    """Write each chart to a folder, as PNG and as SVG.

    Raises `OutputError` when the folder cannot be made, and as `write_picture` does.
    """
    ask = "Choose another folder with `plots`."
    with failures_as(OutputError, f"{folder} cannot hold plots", ask, of=OSError):
        folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        for kind in ("png", "svg"):
            write_picture([chart], folder / f"{chart.key}.{kind}")


def picture_of(charts: Sequence[Chart], kind: str, look: Any = None) -> bytes:
    """Return charts side by side as a file of some kind: png, svg, pdf.

    `look` has other parameters of matplotlib (`rcParams`).

    Raises `InputError` without matplotlib, `ValueError` for a kind that it does not know.
    """
    file = io.BytesIO()
    with _looking(charts, look):
        stamp = {"Date": None} if kind == "svg" else None
        _figure(charts, _WIDTH, _legend).savefig(file, dpi=150, format=kind, metadata=stamp)
    return file.getvalue()


def figure_of(chart: Chart, width: float) -> Any:
    """Return a chart as a figure of matplotlib, so many inches wide, with its letters in points.

    At most six lines have their names at their ends; more have a legend.

    Raises `InputError` without matplotlib.
    """
    with _looking([chart], {"font.size": 8 if width < _WIDTH else 9}):
        figure = _figure([chart], width, _legend if len(chart.series) > _DIRECT else _no_legend)
        _fitted(figure)
        if len(chart.series) <= _DIRECT:
            _name_ends(figure, chart)
        figure.draw_without_rendering()
    return figure


@contextmanager
def _looking(charts: Sequence[Chart], look: Any) -> Iterator[None]:
    """Draw in our own style for a block. Raises `InputError` without matplotlib."""
    check_matplotlib()
    from cycler import cycler  # noqa: PLC0415 (optional)
    from matplotlib import rc_context, rcParams  # noqa: PLC0415 (optional)

    own: Any = {
        # As many looks as lines are drawn: none stands for two of them.
        "axes.prop_cycle": cycler(linestyle=["-", "--", ":", "-."]) * rcParams["axes.prop_cycle"],
        "svg.hashsalt": charts[0].key,  # the same bits each time; no two charts share an id
        **{"font.size": 9, "legend.frameon": False, "text.parse_math": False},
        **(look or {}),
    }
    with rc_context(own), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that no font has, names without room
        yield


def _figure(
    charts: Sequence[Chart], width: float, legend: Callable[[Chart], tuple[int, int]]
) -> Any:
    """Return charts side by side, each so many inches wide."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (optional)

    legends = [legend(chart) for chart in charts]
    heights = [
        min(_HEIGHT, 0.75 * width) + _ROW * (max(0, chart.rows - 10) + lines)
        for chart, (lines, _) in zip(charts, legends, strict=True)
    ]
    figure = Figure(figsize=(width * len(charts), max(heights)), layout="constrained")
    parts = figure.subfigures(1, len(charts), squeeze=False)[0]
    for part, chart, (lines, columns) in zip(parts, charts, legends, strict=True):
        axes = part.subplots()
        axes.set_title(chart.title, fontsize="medium")
        {"points": _points, "bars": _bars, "heat": _heat}[chart.kind](axes, chart)
        if lines:
            part.legend(loc="outside lower center", ncols=columns)
    return figure


def _no_legend(_: Chart) -> tuple[int, int]:
    return 0, 1


def _fitted(figure: Any) -> None:
    """Fold long names of axes, and leave out ticks that would touch others."""
    from matplotlib import ticker  # noqa: PLC0415 (optional)

    (axes,) = figure.subfigs[0].axes
    for own in (axes.xaxis, axes.yaxis):
        own.set_label_text(textwrap.fill(own.get_label_text(), _FOLDED))
    figure.draw_without_rendering()
    ticks = axes.xaxis.get_majorticklocs()
    apart = _APART * axes.xaxis.label.get_size() * figure.dpi / 72
    kept: list[float] = []
    for tick in ticks if axes.xaxis.get_inverted() else ticks[::-1]:  # the sparsest one stays
        places = [axes.transData.transform((x, 1.0))[0] for x in (tick, *kept[-1:])]
        if len(places) == 1 or abs(places[0] - places[1]) >= apart:
            kept.append(tick)
    axes.xaxis.set_major_locator(ticker.FixedLocator(kept))


def _name_ends(figure: Any, chart: Chart) -> None:
    """Write the name of each line beside the plot, at the height of its end, none over another."""
    (axes,) = figure.subfigs[0].axes
    edge, ends = axes.get_xlim()[1], []
    for drawn, own in zip(axes.containers, chart.series, strict=True):
        last = max(range(len(own.x)), key=lambda at: float(own.x[at]))
        height = _on_scale(chart.y, own.y)[last]
        ends.append((height, own.name, drawn.lines[0].get_color()))
    if chart.level is not None:
        (height,) = _on_scale(chart.y, chart.level[:1])
        ends.append((height, chart.level[1], "grey"))
    least = 1.2 * figure.dpi * axes.xaxis.label.get_size() / 72  # between two lines of text
    places = sorted((axes.transData.transform((edge, y))[1], y, *look) for y, *look in ends)
    placed = -math.inf
    for pixel, y, name, color in places:
        placed = max(pixel, placed + least)
        axes.annotate(
            name, (edge, y), (4, (placed - pixel) * 72 / figure.dpi), textcoords="offset points",
            color=color, va="center", annotation_clip=False,
        )  # fmt: skip


def inline_svg(chart: Chart) -> str:
    """Return a chart without its title as an element of a page, in the colour of the page's text.

    Raises `InputError` without matplotlib.
    """
    text = picture_of([replace(chart, title="")], "svg", _ON_PAGE).decode()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return re.sub(r' id="[\w.]+_\d+"', "", text)  # of groups, which other charts have, too


def _legend(chart: Chart) -> tuple[int, int]:
    """Return the lines and columns of a chart's legend, no lines where it needs none."""
    names = [own.name for own in chart.series if own.name]
    names += [chart.level[1]] if chart.level else []
    if chart.rows or len(names) < 2:
        return 0, 1
    columns = 2 if max(map(len, names)) <= _PAIRED else 1
    return -(-len(names) // columns), columns


def _points(axes: Any, chart: Chart) -> None:
    from matplotlib import ticker  # noqa: PLC0415 (optional)

    for own in chart.series:
        x, y = _on_scale(chart.x, own.x), _on_scale(chart.y, own.y)
        axes.errorbar(x, y, yerr=own.spread, marker="o", markersize=4, capsize=2, label=own.name)
        for *place, label in zip(x, y, own.labels or (), strict=False):
            axes.annotate(label, place, (4, -9), textcoords="offset points", fontsize="x-small")
    if chart.level is not None:
        (level,) = _on_scale(chart.y, chart.level[:1])
        axes.axhline(level, color="grey", linestyle=":", label=chart.level[1])
    for letter, axis in (("x", chart.x), ("y", chart.y)):
        _scale(axes, letter, axis)
    measured = sorted({place for own in chart.series for place in _on_scale(chart.x, own.x)})
    if chart.x.scale in _MOST and len(measured) <= _MEASURED:
        axes.xaxis.set_major_locator(ticker.FixedLocator(measured))
    axes.grid(alpha=0.3)


def _on_scale(axis: Axis, values: Sequence[Any]) -> list[float]:
    """Return the places of values on the scale of matplotlib that an axis has."""
    most = _MOST.get(axis.scale)
    return list(values) if most is None else [most - value for value in values]


def _scale(axes: Any, letter: str, axis: Axis) -> None:
    """Give an axis its label, scale and ticks."""
    from matplotlib import ticker  # noqa: PLC0415 (optional)

    own = getattr(axes, f"{letter}axis")
    stretched = axis.scale not in ("linear", "count")
    own.set_label_text(f"{axis.label} (log scale)" if stretched else axis.label)
    if axis.scale == "count":
        own.set_major_locator(ticker.MaxNLocator(integer=True))
    elif axis.scale == "missing":  # nothing missing has no logarithm, so it is linear below 1
        getattr(axes, f"set_{letter}scale")("symlog", linthresh=1, subs=_TICKS)
        own.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=1, subs=_TICKS))
    elif axis.scale != "linear":
        getattr(axes, f"set_{letter}scale")("log")
        own.set_major_locator(ticker.LogLocator(subs=_TICKS))
    own.set_minor_locator(ticker.NullLocator())
    most = _MOST.get(axis.scale)
    if most is not None:
        own.set_inverted(True)
        own.set_major_formatter(lambda place, _: f"{most - place:.4g}")
    elif axis.scale == "log":
        own.set_major_formatter("{x:.4g}")


def _bars(axes: Any, chart: Chart) -> None:
    axes.barh(range(chart.rows), [own.y[0] for own in chart.series])
    axes.set_yticks(range(chart.rows), [_short(own.name) for own in chart.series], fontsize="small")
    axes.set_ylim(chart.rows - 0.4, -0.6)
    axes.set_xlabel(chart.y.label)
    axes.grid(alpha=0.3, axis="x")


def _heat(axes: Any, chart: Chart) -> None:
    cells, columns = chart.cells, chart.columns
    shade = np.full((len(cells), max(1, len(columns))), np.nan)
    scale = Shades.of((v for row in cells for v in row if v is not None), chart.y.scale)
    shade[:, : len(columns)] = [[v if v is None else scale.shade(v) for v in row] for row in cells]
    axes.imshow(shade, cmap="RdBu_r", vmin=-1.2, vmax=1.2, aspect="auto")
    axes.set_facecolor("lightgrey")  # of what is not known
    turned = 90 if sum(map(len, columns)) > _LONG else 0
    axes.set_xticks(range(len(columns)), list(map(_short, columns)), rotation=turned)
    axes.set_yticks(range(len(cells)), [_short(own.name) for own in chart.series], fontsize="small")
    axes.set_xlabel(chart.x.label)
    if len(columns) > _WRITTEN:
        return
    for row, column in np.ndindex(len(cells), len(columns)):
        value = cells[row][column]
        if value is not None:
            color = "white" if abs(shade[row][column]) > DARK else _BLACK
            how = {"ha": "center", "va": "center", "fontsize": "x-small", "color": color}
            axes.text(column, row, chart.cell(value), **how)


def _short(name: str) -> str:
    """A name that leaves room for the plot: the beginning and the end of a long one."""
    return name if len(name) <= _LONG else f"{name[: _LONG // 2]}…{name[-_LONG // 2 + 1 :]}"


def check_matplotlib() -> None:
    """Raise `InputError` where no plot can be made."""
    optional("matplotlib", extra="report", what="A plot")


def check_picture(path: Path) -> None:
    """Raise an error where `write_picture` could not write to `path`, whatever it shows.

    That is an `InputError` without matplotlib and for a name of another kind, else `OutputError`.
    """
    check_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415 (optional)

    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds:
        raise InputError(f"{path} is no kind of picture. Give a name in .png, .svg or .pdf.")
    check_file(path, force=True)
