"""Charts as figures of Plotly, in plain data: `{"data": [...], "layout": {...}}`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from chita.reports.chart import Axis, Chart, Series, whole
from chita.reports.shade import shades

_NATIVE = {"linear", "log"}  # scales that Plotly has, too
_COUNTED = 12  # stages or epochs that are ticked one by one
_ROW = 22  # pixels for a name
_HEIGHT = 320
_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
_ASIDE = "#9a9a9a"
_RED_BLUE = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]


def figure_of(chart: Chart) -> dict[str, Any]:
    """Return a chart as a figure; names that hold HTML are shown as they are.

    Values on an axis that Plotly has no scale for are given as places, with the values as ticks.
    """
    layout: dict[str, Any] = {
        "height": max(_HEIGHT, 130 + _ROW * chart.rows),
        "margin": {"l": 60, "r": 15, "t": 10, "b": 50},
        "hovermode": "closest",
        "showlegend": False,  # the page has one of its own, which keys reach
    }
    if chart.kind == "heat":
        return _heat(chart, layout)
    if chart.kind == "bars":
        return _bars(chart, layout)
    layout["xaxis"] = _axis(chart.x, chart.values("x"))
    layout["yaxis"] = _axis(chart.y, chart.values("y"))
    places = accumulate((not own.aside for own in chart.series), initial=0)
    data = [_points(chart, own, place) for place, own in zip(places, chart.series, strict=False)]
    if chart.level is not None:
        value, name = chart.level
        ends = chart.values("x") or [0.0]
        y = _placed(chart.y, [value] * 2)
        data.append({
            "type": "scatter", "mode": "lines", "name": _shown(name), "y": y,
            "x": _placed(chart.x, [min(ends), max(ends)]),
            "customdata": [[_sharp(x), _sharp(value), "", ""] for x in (min(ends), max(ends))],
            "hovertemplate": f"{_shown(name)}: {value:.6g}<extra></extra>",
            "line": {"color": "#888888", "dash": "dot"},
        })  # fmt: skip
    return {"data": data, "layout": layout}


def _points(chart: Chart, own: Series, place: int) -> dict[str, Any]:
    x = [float(value) for value in own.x]
    color = _ASIDE if own.aside else _COLORS[place % len(_COLORS)]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": ("lines+" if own.joined else "") + "markers" + ("+text" if own.labelled else ""),
        "name": _shown(own.name),
        "x": _placed(chart.x, x),
        "y": _placed(chart.y, own.y),
        "marker": {"size": 7, "color": color},
        "line": {
            "color": color,
            "dash": "solid" if place % (2 * len(_COLORS)) < len(_COLORS) else "dash",
        },
        **_told(chart, own, x),
    }
    if own.labelled and own.notes is not None:
        trace |= {"text": [_shown(note) for note in own.notes], "textposition": "bottom right"}
    if own.spread is not None and any(own.spread):
        at = [chart.y.place(y) for y in own.y]
        pairs = list(zip(own.y, own.spread, at, strict=True))
        native = chart.y.scale in _NATIVE
        up = [s if native else chart.y.place(y + s) - p for y, s, p in pairs]
        down = [s if native else p - chart.y.place(y - s) for y, s, p in pairs]
        trace["error_y"] = {
            "type": "data", "symmetric": False, "thickness": 1,
            "array": list(map(_sharp, up)), "arrayminus": list(map(_sharp, down)),
        }  # fmt: skip
    return trace


def _told(chart: Chart, own: Series, x: Sequence[float]) -> dict[str, Any]:
    """What a point tells when it is pointed at: the values that its places do not tell, too."""
    labels = f"{_shown(chart.x.label)}: {{}}<br>{_shown(chart.y.label)}: {{}}"
    name = f"{_shown(own.name)}<br>" if own.name else ""
    plain = {chart.x.scale, chart.y.scale} <= _NATIVE and own.spread is None and own.notes is None
    if plain:
        told = labels.format("%{x:.6~g}", "%{y:.6~g}")
        return {"hovertemplate": f"{name}{told}<extra></extra>"}
    notes = own.notes or ("",) * len(x)
    spreads = [f" ± {s:.2g}" if s else "" for s in own.spread or (0.0,) * len(x)]
    rows = zip(x, own.y, spreads, notes, strict=True)
    told = labels.format("%{customdata[0]:.6~g}", "%{customdata[1]:.6~g}%{customdata[2]}")
    return {
        "customdata": [[_sharp(a), _sharp(b), spread, _shown(note)] for a, b, spread, note in rows],
        "hovertemplate": f"{name}{told}<br>%{{customdata[3]}}<extra></extra>",
    }


def _bars(chart: Chart, layout: dict[str, Any]) -> dict[str, Any]:
    data = []
    for place, own in enumerate(chart.series):
        name = f"<br>{_shown(own.name)}" if own.name else ""
        trace = {
            "type": "bar", "orientation": "h", "name": _shown(own.name),
            "y": [_shown(str(x)) for x in own.x], "x": [_sharp(y) for y in own.y],
            "hovertemplate": f"%{{y}}{name}<br>%{{x:.6~g}}<extra></extra>",
            "marker": {"color": _COLORS[place % len(_COLORS)]},
        }  # fmt: skip
        if own.notes is not None:
            trace["customdata"] = list(map(_shown, own.notes))
            trace["hovertemplate"] = (
                f"%{{y}}{name}<br>%{{x:.6~g}}<br>%{{customdata}}<extra></extra>"
            )
        data.append(trace)
    layout |= {
        "barmode": "stack",
        "xaxis": {"title": {"text": _shown(chart.y.label)}, "automargin": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
    }
    return {"data": data, "layout": layout}


def _heat(chart: Chart, layout: dict[str, Any]) -> dict[str, Any]:
    table = chart.cells
    written = [[chart.cell(cell) for cell in row] for row in table]
    data = {
        "type": "heatmap", "z": shades(table, chart.y.scale), "zmin": -1.2, "zmax": 1.2,
        "x": list(map(_shown, chart.columns)), "y": [_shown(own.name) for own in chart.series],
        "colorscale": _RED_BLUE, "showscale": False, "xgap": 1, "ygap": 1,
        "hovertemplate": "%{y}<br>%{x}<br>%{text}<extra></extra>",
        "text": written, "texttemplate": "%{text}",
    }  # fmt: skip
    layout |= {
        "xaxis": {"title": {"text": _shown(chart.x.label)}, "type": "category", "side": "top"},
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
    }
    layout["margin"] |= {"t": 60, "b": 15}
    return {"data": [data], "layout": layout}


def _axis(axis: Axis, values: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": {"text": _shown(axis.label)},
        "automargin": True,
        "zeroline": False,
    }
    ticks = axis.ticks(values)
    if axis.scale == "log":
        found |= {"type": "log", "exponentformat": "power"}
    elif axis.scale == "linear" and whole(values) and max(values) - min(values) <= _COUNTED:
        found |= {"dtick": 1}
    elif ticks is not None:
        found |= {
            "tickvals": [_sharp(axis.place(tick)) for tick in ticks],
            "ticktext": [f"{tick:.4g}" for tick in ticks],
        }
    return found


def _placed(axis: Axis, values: Sequence[float]) -> list[float | None]:
    """Values where Plotly has the scale, else their places."""
    native = axis.scale in _NATIVE
    return [_sharp(value if native else axis.place(value)) for value in values]


def _sharp(value: float) -> float | None:
    """A number with as many digits as a picture can show, None for one that is not finite."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _shown(text: str) -> str:
    """A text that Plotly, which knows some tags, shows as it is."""
    return html.escape(text, quote=False).replace("%{", "%&#123;")  # no place for a value
