"""Layers of equal blocks as one line, such as `layers.0-29.mlp.weight`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

FEW = 40
"""A table of at most so many layers shows each of them."""


@final
@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: its `name`, and the `members`, places of its layers in their list."""

    name: str
    members: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name, and how many layers it stands for."""
        count = len(self.members)
        return self.name if count == 1 else f"{self.name} ({count} layers)"


def grouped(names: Sequence[str], alike: Sequence[Hashable]) -> list[Line]:
    """Return layers as lines, one for those that are alike and whose names differ in numbers.

    Args:
        names: of the layers, with dots between their parts.
        alike: of each, what must be equal for two to share a line, such as its shape.

    Lines are in the order of their first layers.

    >>> [line.name for line in grouped(["h.0.up", "h.1.up", "h.2.up", "head"], [1, 1, 1, 1])]
    ['h.0-2.up', 'head']
    """
    found: dict[tuple[str, Hashable], list[int]] = {}
    for place, (name, kind) in enumerate(zip(names, alike, strict=True)):
        pattern = ".".join("#" if part.isdecimal() else part for part in name.split("."))
        found.setdefault((pattern, kind), []).append(place)
    return [
        Line(name=_name([names[i] for i in members]), members=tuple(members))
        for members in found.values()
    ]


def lines_of(names: Sequence[str], alike: Sequence[Hashable], *, every: bool) -> list[Line]:
    """Return the lines of a table: of every layer where it is asked for or they are few."""
    if every or len(names) <= FEW:
        return [Line(name=name, members=(place,)) for place, name in enumerate(names)]
    return grouped(names, alike)


def _name(names: Sequence[str]) -> str:
    """The common name, with the ranges of what differs."""
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(part[0] if len({*part}) == 1 else _ranges(part) for part in columns)


def _ranges(parts: Sequence[str]) -> str:
    """Numbers with those that follow each other as one range: 0-3,5."""
    numbers = sorted({int(part) for part in parts})
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
