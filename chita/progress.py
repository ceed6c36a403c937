"""How long work tells that it moves, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, final


class Progress(Protocol):
    """Receives the beginning, the advance and the end of tasks."""

    def start(self, task: str, total: int, unit: str) -> None:
        """A task of `total` units (plural noun, such as "rows") begins."""

    def advance(self, amount: int) -> None:
        """`amount` more units of the running task are done."""

    def finish(self) -> None:
        """The running task is done or given up."""


@final
class Silent:
    """Shows nothing."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignored."""

    def advance(self, amount: int) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""


@final
class Placed:
    """Tells another, each task preceded by `place`: where in a run it is."""

    def __init__(self, progress: Progress, place: str) -> None:
        self._progress, self._place = progress, place

    def start(self, task: str, total: int, unit: str) -> None:
        """Told with the place."""
        self._progress.start(f"{self._place}{task}", total, unit)

    def advance(self, amount: int) -> None:
        """Told as it is."""
        self._progress.advance(amount)

    def finish(self) -> None:
        """Told as it is."""
        self._progress.finish()


@contextmanager
def track(progress: Progress, task: str, total: int, unit: str) -> Iterator[Progress]:
    """Run a block as one task of `progress`, which ends even when the block fails."""
    progress.start(task, total, unit)
    try:
        yield progress
    finally:
        progress.finish()
