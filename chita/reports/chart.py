"""What a plot shows, as plain data: drawn by Plotly on a page, and by matplotlib in a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, final

_NEAR = 0.5  # per cent that "missing" adds to what is missing from 100, which has no logarithm
_TINY = 1e-6  # share kept, below which there is no room on "kept"


class Scale(NamedTuple):
    """Where a value lies on an axis, and the value that lies there."""

    place: Callable[[float], float]
    value: Callable[[float], float]


SCALES: Mapping[str, Scale] = {
    "linear": Scale(lambda value: value, lambda place: place),
    "log": Scale(
        lambda value: math.log10(max(value, 1e-300)),
        lambda place: 10.0**place,
    ),
    "kept": Scale(
        lambda value: -math.log10(max(1 - value, _TINY)),
        lambda place: 1 - 10.0**-place,
    ),
    "missing": Scale(
        lambda value: -math.log10(max(_NEAR + 100 - value, 1e-9)),
        lambda place: _NEAR + 100 - 10.0**-place,
    ),
}
"""On "kept" every halving of what a sparsity keeps has the same room, on "missing" every halving of
what is missing from 100 per cent (and 0.5)."""

_NICE: Mapping[str, Sequence[float]] = {
    "kept": (0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999),
    "missing": (0, 20, 40, 50, 60, 70, 75, 80, 85, 88, *range(90, 101)),
}
_ROWS = 200  # names, and
_SERIES = 40  # lines, that a chart shows at most
_APART = 0.055  # share of an axis between two ticks at least


def whole(values: Sequence[float]) -> bool:
    """Return whether values are counts, such as stages, between which there is nothing."""
    return bool(values) and all(float(value).is_integer() for value in values)


@final
@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its `label`, and its `scale`, one of `SCALES`.

    >>> Axis(label="sparsity", scale="kept").ticks([0.5, 0.9])
    (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
    """

    label: str
    scale: str = "linear"

    def place(self, value: float) -> float:
        """Return where a value lies."""
        return SCALES[self.scale].place(value)

    def ticks(self, values: Sequence[float]) -> tuple[float, ...] | None:
        """Return the values to label, not too close; None where the drawer may choose."""
        nice = _NICE.get(self.scale)
        if nice is None or not values:
            return None
        low, high = min(values), max(values)
        room = _APART * (self.place(high) - self.place(low))
        found: list[float] = []
        for tick in (t for t in nice if low - 1e-9 <= t <= high + 1e-9):
            if not found or self.place(tick) - self.place(found[-1]) >= room:
                found.append(tick)
        return tuple(found) or (low, high)


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together.

    Fields: `name`; `x`, numbers, or names where these are bars or cells; `y`; `spread`, the length
    of an error bar to each side, or None; `notes`, what is told of each point; `joined` by a line;
    `labelled`, whether notes are written beside the points; `aside`, whether it is a grey line
    behind the others, which keep their colours.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] | None = None
    notes: tuple[str, ...] | None = None
    joined: bool = True
    labelled: bool = False
    aside: bool = False

    def only(self, names: set[Any]) -> Series:
        """Return the points whose x is among some names."""
        at = [i for i, name in enumerate(self.x) if name in names]
        return replace(
            self,
            x=tuple(self.x[i] for i in at),
            y=tuple(self.y[i] for i in at),
            spread=None if self.spread is None else tuple(self.spread[i] for i in at),
            notes=None if self.notes is None else tuple(self.notes[i] for i in at),
        )


@final
@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot.

    Fields: `key`, its name in files; `title`; `kind`, "points", "bars" (lying, a name for each, the
    series laid end to end) or "heat" (a row of cells for each series); the axes `x` and `y`;
    `series`; `level`, a value of y that a dotted line marks, with its name; `note`, what it means.
    """

    key: str
    title: str
    kind: Literal["points", "bars", "heat"] = "points"
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    level: tuple[float, str] | None = None
    note: str = ""

    def values(self, axis: Literal["x", "y"]) -> list[float]:
        """Return all numbers on an axis, ends of error bars and the level among them."""
        if axis == "x":
            return [float(x) for own in self.series for x in own.x if not isinstance(x, str)]
        found = [self.level[0]] if self.level else []
        for own in self.series:
            for y, spread in zip(own.y, own.spread or [0.0] * len(own.y), strict=True):
                found += [y - spread, y + spread]
        return found

    @property
    def rows(self) -> int:
        """How many names stand one above another."""
        if self.kind == "heat":
            return len(self.series)
        return len({name for own in self.series for name in own.x}) if self.kind == "bars" else 0

    @property
    def shown(self) -> Chart:
        """The chart with no more names and lines than can be read; its note tells of the others."""
        kept = self.series[: _ROWS if self.kind == "heat" else _SERIES]
        names = {name: None for own in kept for name in own.x} if self.kind == "bars" else {}
        left = [len(self.series) - len(kept), max(0, len(names) - _ROWS)]
        if not any(left):
            return self
        if left[1]:
            first = set(list(names)[:_ROWS])
            kept = tuple(own.only(first) for own in kept)
        note = f"{self.note} The first {len(names) - left[1] or len(kept)} of "
        note += f"{len(names) or len(self.series)} are shown."
        return replace(self, series=kept, note=note.strip())

    def cell(self, value: float | None) -> str:
        """Return what stands in a cell."""
        if value is None:
            return ""
        return f"{value:.2g}" if self.y.scale == "log" else f"{value:.1f}"

    @property
    def columns(self) -> list[str]:
        """The names of the columns of cells."""
        return list(dict.fromkeys(str(x) for own in self.series for x in own.x))

    @property
    def cells(self) -> list[list[float | None]]:
        """The rows of cells, None where there is no value."""
        rows = [dict(zip(map(str, own.x), own.y, strict=True)) for own in self.series]
        return [[row.get(column) for column in self.columns] for row in rows]
