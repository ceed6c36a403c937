"""Where a tensor's numbers lie that are not zero: as a bit for each, or as gaps between them.

A number is zero here where all its bits are; -0.0 is kept. Everything is done in blocks, so that
the memory needed beside the arguments and the results is some megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum

import numpy as np

from chita.sparse_file.types import Bits

BLOCK = 1 << 18  # numbers, or gaps, at a time; whole bytes of a bitmask
ESCAPE = 255


class Coding(IntEnum):
    """How a tensor is stored; the number is that in a file."""

    DENSE = 0
    BITMASK = 1
    GAPS = 2
    SAME = 3


Values = Callable[[int, int], Bits]
"""From a begin and an end, those of the stored values, as bits of the tensor's type."""


def mask_bytes(size: int) -> int:
    """Return how many bytes a bit for each of `size` numbers takes."""
    return -(-size // 8)


def counts(bits: Bits) -> tuple[int, int]:
    """Return how many numbers are not zero, and how many bytes their gaps take."""
    kept = escapes = covered = 0
    for places in _places(bits):
        kept += len(places)
        escapes += int((_gaps(places, covered) // ESCAPE).sum())
        covered = _after(places, covered)
    return kept, kept + escapes + (len(bits) - covered) // ESCAPE


def smallest(size: int, kept: int, gaps: int, width: int) -> Coding:
    """Return the coding of fewest bytes for values of a width; of equals the simplest."""
    cost = {
        Coding.DENSE: size * width,
        Coding.BITMASK: kept * width + mask_bytes(size),
        Coding.GAPS: kept * width + gaps,
    }
    return min(cost, key=lambda coding: (cost[coding], coding))


def blocks(bits: Bits) -> Iterator[Bits]:
    """Yield all numbers, in order."""
    for start in range(0, len(bits), BLOCK):
        yield bits[start : start + BLOCK]


def kept_values(bits: Bits) -> Iterator[Bits]:
    """Yield the numbers that are not zero, in order."""
    for block in blocks(bits):
        yield block[block != 0]


def bitmask(bits: Bits) -> Bits:
    """Return number i's being not zero as bit i mod 8, from the least, of byte i div 8."""
    parts = [np.packbits(block != 0, bitorder="little") for block in blocks(bits)]
    return np.concatenate([np.empty(0, np.uint8), *parts])


def gaps(bits: Bits) -> Bits:
    """Return how many zeros precede each number that is not zero, a byte each.

    255 stands for 255 zeros after which more follow; what is left of the zeros at the end is below
    255.
    """
    covered, parts = 0, [np.empty(0, np.uint8)]
    for places in _places(bits):
        between = _gaps(places, covered)
        ends = np.cumsum(between // ESCAPE + 1)
        part = np.full(int(ends[-1]) if len(ends) else 0, ESCAPE, np.uint8)
        part[ends - 1] = between % ESCAPE
        parts.append(part)
        covered = _after(places, covered)
    parts.append(np.full((len(bits) - covered) // ESCAPE, ESCAPE, np.uint8))
    return np.concatenate(parts)


def fill_dense(out: Bits, values: Values) -> None:
    """Write all values into `out`."""
    for start in range(0, len(out), BLOCK):
        end = min(start + BLOCK, len(out))
        out[start:end] = values(start, end)


def fill_by_bitmask(out: Bits, mask: Bits, values: Values, count: int) -> None:
    """Write `count` values into `out`, which holds zeros, where bits are set.

    Raises `ValueError` where not just so many bits are set, or one behind the last number.
    """
    taken = 0
    for start in range(0, len(out), BLOCK):
        part = out[start : start + BLOCK]
        packed = mask[start // 8 : mask_bytes(start + len(part))]
        here = np.unpackbits(packed, count=len(part), bitorder="little").view(np.bool_)
        begin, taken = taken, taken + int(np.count_nonzero(here))
        if taken > count:
            raise ValueError(f"more bits are set than there are values, {count}")
        part[here] = values(begin, taken)
    if taken != count:
        raise ValueError(f"{taken} bits are set for {count} values")
    if len(out) % 8 and mask[-1] >> (len(out) % 8):
        raise ValueError("a bit is set behind the last number")


def fill_by_gaps(out: Bits, between: Bits, values: Values, count: int) -> None:
    """Write `count` values into `out`, which holds zeros, with those gaps.

    Raises `ValueError` where the gaps are not for so many values, or do not end where `out` does.
    """
    covered = taken = 0
    for block in blocks(between):
        final = block != ESCAPE
        ends = np.cumsum(block.astype(np.int64) + final) + covered
        covered = int(ends[-1])
        begin, taken = taken, taken + int(np.count_nonzero(final))
        if covered > len(out):
            raise ValueError("its gaps lead behind the last number")
        if taken > count:
            raise ValueError(f"there are gaps before more than {count} values")
        out[ends[final] - 1] = values(begin, taken)
    if taken != count:
        raise ValueError(f"there are gaps before {taken} of {count} values")
    if len(out) - covered >= ESCAPE:
        raise ValueError("its gaps end before the last number")


def _places(bits: Bits) -> Iterator[Bits]:
    """Indices of the numbers that are not zero, block by block."""
    for start in range(0, len(bits), BLOCK):
        yield np.flatnonzero(bits[start : start + BLOCK] != 0) + start


def _gaps(places: Bits, covered: int) -> Bits:
    """How many zeros precede each, the first `covered` numbers being done with."""
    return np.diff(places, prepend=covered - 1) - 1


def _after(places: Bits, covered: int) -> int:
    return int(places[-1]) + 1 if len(places) else covered
