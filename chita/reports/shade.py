"""The shades of a table of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

_ORDERS = 4.0  # of magnitude below the largest, at which there is no colour left


def shades(table: Sequence[Sequence[float | None]], scale: str) -> list[list[float | None]]:
    """Return a shade in -1 to 1 for each number: its sign, and how near it is to the largest.

    On the scale "log" it falls by a quarter with every order of magnitude below the largest
    absolute value, on "linear" in proportion.

    >>> shades([[100.0, -10.0], [0.0, None]], "log")
    [[1.0, -0.75], [0.0, None]]
    """
    largest = max((abs(v) for row in table for v in row if v is not None), default=0.0)
    return [[None if v is None else _shade(v, largest, scale) for v in row] for row in table]


def _shade(value: float, largest: float, scale: str) -> float:
    if not value:
        return 0.0
    if scale == "linear":
        return value / largest
    below = math.log10(largest / abs(value))
    return math.copysign(max(0.0, 1 - below / _ORDERS), value)
