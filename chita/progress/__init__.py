"""How long work tells that it moves, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, final

RUN_SECONDS_LEFT = "run_seconds_left"
"""Among the values told: the seconds that a whole run is thought to take from now on."""


class Progress(Protocol):
    """Receives the beginning, the advance and the end of tasks, and the values they came to.

    One task runs at a time.
    """

    def start(self, task: str, total: int, unit: str) -> None:
        """A task of `total` units (plural noun, such as "rows") begins; 0 where it is unknown."""

    def advance(self, amount: int) -> None:
        """`amount` more units of the running task are done."""

    def finish(self) -> None:
        """The running task is done or given up."""

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """A task came to these values, by name; each holds until another of its name comes."""


@final
class Silent:
    """Shows nothing."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignored."""

    def advance(self, amount: int) -> None:
        """Ignored."""

    def finish(self) -> None:
        """Ignored."""

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """Ignored."""


@final
class Placed:
    """Tells another, each task preceded by `place`: where in a run it is.

    What is left of a part is not what is left of the run, so that is not told.
    """

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

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """Told with the place."""
        own = {name: value for name, value in values.items() if name != RUN_SECONDS_LEFT}
        if own:
            self._progress.tell(f"{self._place}{task}", own)


@contextmanager
def track(progress: Progress, task: str, total: int, unit: str) -> Iterator[Progress]:
    """Run a block as one task of `progress`, which ends even when the block fails."""
    progress.start(task, total, unit)
    try:
        yield progress
    finally:
        progress.finish()
