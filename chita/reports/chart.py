"""Plots as plain data, which `picture` draws and a page also shows as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

_ROWS = 200  # names, and
_SERIES = 40  # lines, that a chart shows at most


@final
@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its `label`, and its `scale`.

    The scale is "linear", "count" (of whole numbers), "log", "kept" (of sparsities, with equal room
    for every halving of what they keep) or "missing" (of per cents, with equal room for every
    halving of what is missing from 100, down to 1).
    """

    label: str
    scale: Literal["linear", "count", "log", "kept", "missing"] = "linear"


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together.

    Fields: `name`; `x`, numbers, or names where these are bars or cells; `y`; `spread`, the length
    of an error bar to each side, or None; `labels`, written beside the points, or None.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, name: str, pairs: Iterable[tuple[float | str, float]], **look: Any) -> Series:
        """Return the series of some pairs (x, y).

        >>> Series.of("loss", [(1.0, 0.5), (2.0, 0.4)]).y
        (0.5, 0.4)
        """
        found = list(pairs)
        return cls(name=name, x=tuple(x for x, _ in found), y=tuple(y for _, y in found), **look)


@final
@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot.

    Fields: `key`, its name in files; `title`; `kind`, "points", "bars" (a lying one for each
    series, of one value) or "heat" (a row of cells for each series); the axes `x` and `y`;
    `series`; `level`, a value of y that a dotted line marks, with its name; `note`, its meaning.
    """

    key: str
    title: str
    kind: Literal["points", "bars", "heat"] = "points"
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    level: tuple[float, str] | None = None
    note: str = ""

    @property
    def rows(self) -> int:
        """The number of names that stand one above another."""
        return 0 if self.kind == "points" else len(self.series)

    @property
    def shown(self) -> Chart:
        """The chart with no more names and lines than can be read; its note counts the others."""
        every, most = len(self.series), _SERIES if self.kind == "points" else _ROWS
        if every <= most:
            return self
        note = f"{self.note} The first {most} of {every} are shown."
        return replace(self, series=self.series[:most], note=note.strip())

    @property
    def numbers(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The same as a table: its head, and its rows, of which the first cell is a name."""
        if self.kind != "points":
            rows = zip(self.series, self.cells, strict=True)
            return ("", *self.columns), [(own.name, *map(self.cell, row)) for own, row in rows]
        found = [
            (own.name, f"{x:.6g}", f"{y:.6g}", f"{spread:.2g}" if spread else "")
            for own in self.series
            for x, y, spread in zip(own.x, own.y, own.spread or (0,) * len(own.x), strict=True)
        ]
        level = [(self.level[1], "", f"{self.level[0]:.6g}", "")] if self.level else []
        return ("", self.x.label, self.y.label, "±"), [*found, *level]

    def cell(self, value: float | None) -> str:
        """Return what stands in a cell."""
        if value is None:
            return ""
        return f"{value:.2g}" if self.y.scale == "log" else f"{value:.4g}"

    @property
    def columns(self) -> list[str]:
        """The names of the columns of cells."""
        return list(dict.fromkeys(str(x) for own in self.series for x in own.x))

    @property
    def cells(self) -> list[list[float | None]]:
        """The rows of cells, None without a value."""
        rows = [dict(zip(map(str, own.x), own.y, strict=True)) for own in self.series]
        return [[row.get(column) for column in self.columns] for row in rows]
