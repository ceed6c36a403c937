"""The shades of a table of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

DARK = 0.6  # shades above which a number is white
_DECADES = 4  # that shades tell apart at most


@final
@dataclass(frozen=True, kw_only=True)
class Shades:
    """Shades of numbers, by arsinh(v/`width`): nearly linear below `width`, logarithmic above.

    `most` is the largest absolute value, whose shade is 1 or -1.
    """

    width: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float], scale: str = "log") -> Shades:
        """Return the shades of some numbers, in proportion to them on the scale "linear".

        On "log" one number in ten lies below the width, which is at most four decades below the
        largest.
        """
        sizes = [abs(value) for value in values if value != 0] or [1.0]
        if scale == "linear":
            return cls(width=1e6 * max(sizes), most=max(sizes))
        low = float(np.quantile(sizes, 0.1))
        return cls(width=max(low, max(sizes) * 10.0**-_DECADES), most=max(sizes))

    def shade(self, value: float) -> float:
        """Return a number in [-1, 1], of the sign of the value.

        >>> Shades(width=1.0, most=100.0).shade(-100.0)
        -1.0
        """
        return float(np.arcsinh(value / self.width) / np.arcsinh(self.most / self.width))
