"""Charts as pictures, by matplotlib: PNG, SVG, or whatever the file's name says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chita.errors import InputError, OutputError
from chita.files import replacing
from chita.reports.chart import SCALES, Axis, Chart, whole
from chita.reports.shade import DARK, shades

_SIDE = 0.05  # of an axis that stays free on each side
_ROW = 0.22  # inches for a name
_MISSING = "A plot needs matplotlib: pip install matplotlib."
_LONG = 60  # letters of a name that are written
_WRITTEN = 12  # columns at most whose cells have room for a number


def write_picture(charts: Sequence[Chart], path: Path) -> None:
    """Write charts side by side, whole or not at all.

    Raises `InputError` without matplotlib, or when the file cannot be written.
    """
    kind = path.suffix.lstrip(".") or "png"
    try:
        with replacing(path) as draft:
            draft.write_bytes(picture_of(charts, kind))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be written: {error}. Choose another path.") from None


def write_pictures(charts: Sequence[Chart], folder: Path) -> None:
    """Write each chart to a folder, as PNG and as SVG.

    Raises `OutputError` when the folder cannot be made, and as `write_picture` does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot hold plots: {error}. Choose another folder with `plots`."
        ) from None
    for chart in charts:
        for kind in ("png", "svg"):
            write_picture([chart], folder / f"{chart.key}.{kind}")


def picture_of(charts: Sequence[Chart], kind: str) -> bytes:
    """Return charts side by side as a file of some kind: png, svg, pdf.

    Raises `InputError` without matplotlib, `ValueError` for a kind that it does not know.
    """
    try:
        from matplotlib import colormaps, rc_context  # noqa: PLC0415 (optional)
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError(_MISSING) from None
    panels, file = len(charts), io.BytesIO()
    height = max(4.2, *(1.4 + _ROW * chart.rows for chart in charts))
    with (
        rc_context({"text.parse_math": False, "svg.hashsalt": "chita"}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # letters that no font has, names without room
        size = (8 if panels == 1 else 2 + 4 * panels, height)
        figure = Figure(figsize=size, layout="constrained")
        ten = colormaps["tab10"].colors  # type: ignore[attr-defined]
        for axes, chart in zip(figure.subplots(1, panels, squeeze=False)[0], charts, strict=True):
            axes.set_prop_cycle(
                color=[*ten, *ten], linestyle=[style for style in ("-", "--") for _ in ten]
            )
            _draw(figure, axes, chart, alone=panels == 1)
        stamp = {"Date": None} if kind == "svg" else None
        figure.savefig(file, dpi=150, format=kind, metadata=stamp)
    return file.getvalue()


def _draw(figure: Any, axes: Any, chart: Chart, *, alone: bool) -> None:
    axes.set_title(chart.title, fontsize="medium")
    {"points": _points, "bars": _bars, "heat": _heat}[chart.kind](axes, chart)
    if chart.kind == "heat":
        return
    named = [own for own in chart.series if own.name]
    if len(named) + (chart.level is not None) > 1:
        owner = figure if alone else axes
        owner.legend(fontsize="small", loc="outside right upper" if alone else "best")


def _points(axes: Any, chart: Chart) -> None:
    for own in chart.series:
        axes.errorbar(
            own.x,
            own.y,
            yerr=own.spread,
            marker="o",
            markersize=4,
            capsize=2,
            label=own.name or None,
            **({} if own.joined else {"linestyle": "none"}),
            **({"color": "silver", "zorder": 1} if own.aside else {}),
        )
        for x, y, note in zip(own.x, own.y, own.notes or (), strict=False):
            if own.labelled:
                axes.annotate(note, (x, y), (4, -9), textcoords="offset points", fontsize="x-small")
    if chart.level is not None:
        axes.axhline(chart.level[0], color="grey", linestyle=":", label=chart.level[1])
    for letter, axis in (("x", chart.x), ("y", chart.y)):
        _scale(axes, letter, axis, chart.values(letter))  # type: ignore[arg-type]
    axes.grid(alpha=0.3)


def _scale(axes: Any, letter: str, axis: Axis, values: Sequence[float]) -> None:
    """Give an axis its label, scale, limits and ticks."""
    from matplotlib.ticker import (  # noqa: PLC0415 (optional)
        FixedLocator,
        LogLocator,
        MaxNLocator,
        NullLocator,
    )

    own = getattr(axes, f"{letter}axis")
    getattr(axes, f"set_{letter}label")(axis.label)
    if axis.scale == "linear" and whole(values):
        own.set_major_locator(MaxNLocator(integer=True))
    if axis.scale == "linear" or not values:
        return
    if axis.scale == "log":
        getattr(axes, f"set_{letter}scale")("log")
        own.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        scale = SCALES[axis.scale]
        both = (np.vectorize(scale.place, [float]), np.vectorize(scale.value, [float]))
        getattr(axes, f"set_{letter}scale")("function", functions=both)
        places = [scale.place(value) for value in values]
        room = _SIDE * (max(places) - min(places)) + 1e-3
        ends = scale.value(min(places) - room), scale.value(max(places) + room)
        getattr(axes, f"set_{letter}lim")(*ends)
        own.set_major_locator(FixedLocator(axis.ticks([max(0.0, ends[0]), *values, ends[1]]) or ()))
    own.set_minor_locator(NullLocator())
    own.set_major_formatter("{x:.4g}")


def _bars(axes: Any, chart: Chart) -> None:
    names = list(dict.fromkeys(name for own in chart.series for name in own.x))
    places = {name: place for place, name in enumerate(names)}
    ends = dict.fromkeys(names, 0.0)
    for own in chart.series:
        left = [ends[name] for name in own.x]
        axes.barh([places[name] for name in own.x], own.y, left=left, label=own.name or None)
        for name, y in zip(own.x, own.y, strict=True):
            ends[name] += y
    axes.set_yticks(range(len(names)), list(map(_short, names)), fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(chart.y.label)
    if chart.y.scale == "log":
        axes.set_xscale("log")
    axes.grid(alpha=0.3, axis="x")


def _heat(axes: Any, chart: Chart) -> None:
    cells, columns = chart.cells, chart.columns
    found = shades(cells, chart.y.scale)
    shade = np.array([[np.nan if own is None else own for own in row] for row in found])
    shade = shade.reshape(len(cells), -1) if columns else np.full((len(cells), 1), np.nan)
    axes.imshow(shade, cmap="RdBu_r", vmin=-1.2, vmax=1.2, aspect="auto")
    axes.set_facecolor("lightgrey")  # of what is not known
    axes.set_xticks(range(len(columns)), list(map(_short, columns)))
    axes.set_yticks(range(len(cells)), [_short(own.name) for own in chart.series], fontsize="small")
    axes.set_xlabel(chart.x.label)
    if len(columns) > _WRITTEN:
        return
    for row, column in np.ndindex(len(cells), len(columns)):
        value = cells[row][column]
        if value is not None:
            color = "white" if abs(shade[row][column]) > DARK else "black"
            how = {"ha": "center", "va": "center", "fontsize": "x-small", "color": color}
            axes.text(column, row, chart.cell(value), **how)


def _short(name: Any) -> str:
    """A name that leaves room for the plot: the beginning and the end of a long one."""
    text = str(name)
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]}…{text[-_LONG // 2 + 1 :]}"


def check_picture(path: Path) -> None:
    """Raise `InputError` where `write_picture` could not write to `path`, whatever it shows."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError(_MISSING) from None
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds:
        raise InputError(f"{path} is no kind of picture. Give a name in .png, .svg or .pdf.")
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"{path} cannot be a file there. Give a path in a folder that exists.")
