"""The places of a tensor's values: a bit for each number, or the gaps between the values.

A number is zero here where all its bits are; -0.0 is a value.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from chita.sparse_file.types import Bits

ESCAPE = 255


class Coding(StrEnum):
    """The ways to store a tensor, the simplest first."""

    DENSE = "dense"
    BITMASK = "bitmask"
    GAPS = "gaps"


def smallest(bits: Bits, width: int) -> tuple[Coding, Bits]:
    """Return the coding of fewest bytes for values of a width, and the places in it.

    Of equals it is the simplest.
    """
    count = int(np.count_nonzero(bits))
    places = {Coding.DENSE: np.empty(0, np.uint8), Coding.BITMASK: bitmask(bits)}
    if count < len(places[Coding.BITMASK]):  # gaps take a byte a value, or more
        places[Coding.GAPS] = gaps(bits)
    cost = {name: count * width + len(code) for name, code in places.items()}
    cost[Coding.DENSE] = len(bits) * width
    best = min(cost, key=lambda name: cost[name])
    return best, places[best]


def bitmask(bits: Bits) -> Bits:
    """Return number i's being not zero as bit i mod 8, from the least, of byte i div 8."""
    return np.packbits(bits != 0, bitorder="little")


def gaps(bits: Bits) -> Bits:
    """Return how many zeros precede each number that is not zero, a byte each.

    255 stands for 255 zeros after which more follow; the zeros that no byte counts at the end are
    fewer than 255.
    """
    where = np.flatnonzero(bits)
    between = np.diff(where, prepend=-1) - 1
    # Each gap is as many 255s as fit into it and then the rest, so it ends at these bytes.
    ends = np.cumsum(between // ESCAPE + 1)
    after = len(bits) - (int(where[-1]) + 1 if len(where) else 0)
    found = np.full((int(ends[-1]) if len(ends) else 0) + after // ESCAPE, ESCAPE, np.uint8)
    found[ends - 1] = between % ESCAPE
    return found


def places_of_bitmask(mask: Bits, size: int, count: int) -> NDArray[np.bool_]:
    """Return which of `size` numbers have one of `count` values.

    Raises `ValueError` where not just so many bits are set, or one behind the last number.
    """
    if len(mask) != -(-size // 8):
        raise ValueError(f"{len(mask)} bytes are no bitmask of {size} numbers")
    found = np.unpackbits(mask, bitorder="little").view(np.bool_)
    if found[size:].any():
        raise ValueError("a bit is set behind the last number")
    if np.count_nonzero(found) != count:
        raise ValueError(f"{np.count_nonzero(found)} bits are set for {count} values")
    return found[:size]


def places_of_gaps(between: Bits, size: int, count: int) -> NDArray[np.int64]:
    """Return the indices among `size` numbers of `count` values with those gaps.

    Raises `ValueError` where the gaps are not for so many values, or end too early or too late.
    """
    if len(between) > size:  # each byte covers a number or more
        raise ValueError("its gaps lead behind the last number")
    final = between != ESCAPE
    # A byte covers its zeros and, unless it is 255, the value after them.
    covered = np.cumsum(between.astype(np.int64) + final)
    end = int(covered[-1]) if len(covered) else 0
    if np.count_nonzero(final) != count:
        raise ValueError(f"there are gaps before {np.count_nonzero(final)} of {count} values")
    if end > size:
        raise ValueError("its gaps lead behind the last number")
    if size - end >= ESCAPE:
        raise ValueError("its gaps end before the last number")
    found: NDArray[np.int64] = covered[final] - 1
    return found
