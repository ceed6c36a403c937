"""The running task in numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import final

from chita.progress import RUN_SECONDS_LEFT


@final
class Running:
    """The running task, and the values told so far.

    Fields: `task`, `total` (0 where it is unknown), `unit` and how many of it are `done`. `clock`
    tells seconds.

    >>> now = iter([0.0, 4.0, 4.0])
    >>> running = Running(lambda: next(now))
    >>> running.start("collect gradients", 1000, "rows")
    >>> running.advance(200)
    >>> running.rate, running.seconds_left
    (50.0, 16.0)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.task, self.total, self.unit, self.done = "", 0, "", 0
        self._began = 0.0
        self._told: dict[str, float] = {}
        self._end: float | None = None  # of the run, as it was thought to be

    def start(self, task: str, total: int, unit: str) -> None:
        """A task begins."""
        self.task, self.total, self.unit, self.done = task, total, unit, 0
        self._began = self._clock()

    def advance(self, amount: int) -> None:
        """So many more units are done."""
        self.done += amount

    def tell(self, values: Mapping[str, float]) -> None:
        """Take over values."""
        values = dict(values)
        left = values.pop(RUN_SECONDS_LEFT, None)
        if left is not None:
            self._end = self._clock() + left
        self._told = {**self._told, **values}  # others may be reading the one before

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return self._clock() - self._began

    @property
    def rate(self) -> float | None:
        """Units a second, a mean since the task began; None before the first."""
        seconds = self.seconds
        return self.done / seconds if self.done and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Of the task at this rate, None where it is unknown."""
        rate = self.rate
        return max(0, self.total - self.done) / rate if rate and self.total else None

    @property
    def values(self) -> dict[str, float]:
        """The latest of each name; what is left of the run, as of now, while it is above zero."""
        left = 0.0 if self._end is None else self._end - self._clock()
        return {**self._told, **({RUN_SECONDS_LEFT: left} if left > 0 else {})}
