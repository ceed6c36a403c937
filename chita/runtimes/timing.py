"""Times of several calls, measured in turns: the same minutes on the same machine."""

from __future__ import annotations

import math
import os
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

_LEAST = 2e-4  # seconds of one measurement at least, by several calls if need be
_WARM_UP, _FEWEST, _MOST = 3, 9, 1000  # rounds


@final
@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one call: the `median` of `count` measurements, and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int


def side_by_side(
    runs: Mapping[str, Callable[[], object]], seconds: float = 2.0
) -> dict[str, Timing]:
    """Return the time of each of several calls, measured in turns.

    Rounds go on for about `seconds`, in each of which every call has its turn; who is first
    changes from round to round. Rounds before these warm caches up, and are not counted.
    """
    calls = {}
    for name, run in runs.items():
        for _ in range(_WARM_UP):
            once = _measured(run, 1)
        calls[name] = max(1, math.ceil(_LEAST / max(once, 1e-9)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < _FEWEST or (rounds < _MOST and time.perf_counter() < end):
        turn = rounds % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(_measured(runs[name], calls[name]))
        rounds += 1
    return {name: _timing(values) for name, values in found.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread for a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load() -> float | None:
    """Return the processes that competed in the last minute, on average; None if unknown."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _measured(run: Callable[[], object], calls: int) -> float:
    return timeit.timeit(run, number=calls, timer=time.perf_counter) / calls


def _timing(values: list[float]) -> Timing:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), method="nearest").tolist()
    return Timing(median=median, low=low, high=high, count=len(values))
