"""Systems of similar size, many of which are solved at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor


def alike(
    counts: Tensor, asked: Tensor, entries: Callable[[int], int], room: float
) -> Iterator[Tensor]:
    """Cut systems into batches of similar size, from the smallest on.

    Args:
        counts: the size of every system, (B,).
        asked: which are asked for, an index.
        entries: of the memory that a system of some size takes.
        room: entries of a batch at most, unless a single system has more.
    """
    asked = asked[counts[asked].argsort(stable=True)]
    sizes = counts[asked].tolist()
    start = 0
    while start < len(asked):
        stop, widest = start + 1, sizes[start] + sizes[start] // 8 + 8
        while (
            stop < len(asked)
            and sizes[stop] <= widest
            and (stop + 1 - start) * entries(sizes[stop]) <= room
        ):
            stop += 1
        yield asked[start:stop]
        start = stop
