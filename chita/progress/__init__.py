"""Progress of long work, reported without knowing who shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, final

RUN_SECONDS_LEFT = "run_seconds_left"
"""Name of a reported value: the seconds that a whole run is expected to take from now on."""


class Progress(Protocol):
    """Receiver of the beginning, the advance and the end of tasks, and of the values they came to.

    One task runs at a time.
    """

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin a task of `total` units (plural noun, such as "samples"); 0 where it is unknown."""

    def advance(self, amount: int) -> None:
        """Add `amount` units that are done to the running task."""

    def finish(self) -> None:
        """End the running task, which is done or given up."""

    def report(self, task: str, values: Mapping[str, float]) -> None:
        """Receive what a task came to, by name; each value holds until the next of its name."""


@final
class Silent:
    """Progress that shows nothing."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignore it."""

    def advance(self, amount: int) -> None:
        """Ignore it."""

    def finish(self) -> None:
        """Ignore it."""

    def report(self, task: str, values: Mapping[str, float]) -> None:
        """Ignore it."""


@final
class Placed:
    """Progress of a part of a run, passed on with its `place` in the run before each task.

    `after` stands after each. The time left of a part is not that of the run, so it is not passed
    on.
    """

    def __init__(self, progress: Progress, place: str = "", after: str = "") -> None:
        self._progress, self._place, self._after = progress, place, after

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin the task with its place."""
        self._progress.start(self._placed(task), total, unit)

    def advance(self, amount: int) -> None:
        """Pass the advance on."""
        self._progress.advance(amount)

    def finish(self) -> None:
        """Pass the end on."""
        self._progress.finish()

    def report(self, task: str, values: Mapping[str, float]) -> None:
        """Pass the values on, without the time left."""
        own = {name: value for name, value in values.items() if name != RUN_SECONDS_LEFT}
        if own:
            self._progress.report(self._placed(task), own)

    def _placed(self, task: str) -> str:
        return f"{self._place}{task}{self._after}"


@contextmanager
def track(progress: Progress, task: str, total: int, unit: str) -> Iterator[Progress]:
    """Run a block as one task of `progress`, which ends even when the block fails."""
    progress.start(task, total, unit)
    try:
        yield progress
    finally:
        progress.finish()
