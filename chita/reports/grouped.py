"""Layers of equal blocks as one line, such as `layers.0-29.mlp.weight`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

Parts = tuple[str, ...]
"""A name, or the end of one, by its dots; of a line, the values of a part."""

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

    A line has all layers that its name can be read as, and no others.

    Args:
        names: of the layers, with dots between their parts.
        alike: of each, what must be equal for two to share a line, such as its shape.

    Lines are in the order of their first layers.

    >>> [line.name for line in grouped(["h.0.up", "h.1.up", "h.2.up", "head"], [1, 1, 1, 1])]
    ['h.0-2.up', 'head']
    """
    found: dict[tuple[str, Hashable], dict[Parts, int]] = {}
    for place, (name, kind) in enumerate(zip(names, alike, strict=True)):
        parts = tuple(name.split("."))
        pattern = ".".join("#" if part.isdecimal() else part for part in parts)
        found.setdefault((pattern, kind), {})[parts] = place
    lines = [
        Line(
            name=".".join(map(_range, box)),
            members=tuple(sorted(places[parts] for parts in product(*box))),
        )
        for places in found.values()
        for box in _boxes(places)
    ]
    return sorted(lines, key=lambda line: line.members)


def lines_of(names: Sequence[str], alike: Sequence[Hashable], *, every: bool) -> list[Line]:
    """Return the lines of a table: of every layer where it is asked for or they are few."""
    if every or len(names) <= FEW:
        return [Line(name=name, members=(place,)) for place, name in enumerate(names)]
    return grouped(names, alike)


def _boxes(names: Iterable[Parts]) -> list[tuple[Parts, ...]]:
    """Names as full products: of each, the values of every part."""
    rests: dict[str, list[Parts]] = {}
    for first, *rest in filter(None, names):
        rests.setdefault(first, []).append(tuple(rest))
    same: dict[frozenset[Parts], list[str]] = {}
    for first, own in rests.items():
        same.setdefault(frozenset(own), []).append(first)
    found = [(tuple(heads), *box) for heads in same.values() for box in _boxes(rests[heads[0]])]
    return found or [()]


def _range(parts: Parts) -> str:
    """One text as it is; numbers with those that follow each other as one range: 0-3,5."""
    if len(parts) == 1:
        return parts[0]
    numbers = sorted({int(part) for part in parts})
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
