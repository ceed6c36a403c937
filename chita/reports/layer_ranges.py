"""Layers of equal blocks under one name, such as `layers.0-29.mlp.weight`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

_Parts = tuple[str, ...]
"""A name, or the end of one, by its dots; of a range, the values of a part."""

FEW = 40
"""A table of at most so many layers shows each of them."""


@final
@dataclass(frozen=True, kw_only=True)
class LayerRange:
    """Layers under one `name`: the `members`, their places in the list of all."""

    name: str
    members: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name, and the number of layers that it stands for."""
        count = len(self.members)
        return self.name if count == 1 else f"{self.name} ({count} layers)"


def joined(names: Sequence[str], alike: Sequence[Hashable]) -> list[LayerRange]:
    """Return layers as ranges, one for those that are alike and whose names differ in numbers.

    A range has all layers that its name can be read as, and no others.

    Args:
        names: of the layers, with dots between their parts.
        alike: of each, what must be equal for two to share a range, such as its shape.

    Ranges are in the order of their first layers.

    >>> [own.name for own in joined(["h.0.up", "h.1.up", "h.2.up", "head"], [1, 1, 1, 1])]
    ['h.0-2.up', 'head']
    """
    found: dict[tuple[str, Hashable], dict[_Parts, int]] = {}
    for place, (name, kind) in enumerate(zip(names, alike, strict=True)):
        parts = tuple(name.split("."))
        pattern = ".".join("#" if part.isdecimal() else part for part in parts)
        found.setdefault((pattern, kind), {})[parts] = place
    ranges = [
        LayerRange(
            name=".".join(map(_range, box)),
            members=tuple(sorted(places[parts] for parts in product(*box))),
        )
        for places in found.values()
        for box in _boxes(places)
    ]
    return sorted(ranges, key=lambda own: own.members)


def layer_ranges(
    names: Sequence[str], alike: Sequence[Hashable], *, every: bool
) -> list[LayerRange]:
    """Return the rows of a table: of every layer where it is asked for or they are few."""
    if every or len(names) <= FEW:
        return [LayerRange(name=name, members=(place,)) for place, name in enumerate(names)]
    return joined(names, alike)


def _boxes(names: Iterable[_Parts]) -> list[tuple[_Parts, ...]]:
    """Names as full products: of each, the values of every part."""
    rests: dict[str, list[_Parts]] = {}
    for first, *rest in filter(None, names):
        rests.setdefault(first, []).append(tuple(rest))
    same: dict[frozenset[_Parts], list[str]] = {}
    for first, own in rests.items():
        same.setdefault(frozenset(own), []).append(first)
    found = [(tuple(heads), *box) for heads in same.values() for box in _boxes(rests[heads[0]])]
    return found or [()]


def _range(parts: _Parts) -> str:
    """One text as it is; numbers with those that follow each other as one range: 0-3,5."""
    if len(parts) == 1:
        return parts[0]
    numbers = sorted({int(part) for part in parts})
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
