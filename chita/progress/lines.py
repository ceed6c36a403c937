"""Progress as lines, for files, pipes and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from rich.console import Console

from chita.progress.beat import Beat
from chita.progress.form import ADVANCE, FINISH, START, Form
from chita.progress.running import Running


@final
class Lines:
    """Lines in some form: when a task begins, ends or came to values, and every `period` seconds.

    The last also while nothing advances, so that a task without parts is seen to go on.
    """

    def __init__(self, console: Console, form: Form, *, period: float) -> None:
        self._console, self._form, self._period = console, form, period
        self._running = Running()
        self._beat: Beat | None = None

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin."""
        self._running.start(task, total, unit)
        self._write(START)
        self._beat = Beat(lambda: self._write(ADVANCE), self._period)

    def advance(self, amount: int) -> None:
        """Count."""
        self._running.advance(amount)

    def finish(self) -> None:
        """End."""
        if self._beat is not None:
            self._beat.stop()
        self._write(FINISH)

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """Leave a line."""
        self._running.tell(values)
        say(self._console, self._form.told(task, values))

    def _write(self, event: str) -> None:
        line = self._form.event(event, self._running)
        if line is not None:
            say(self._console, line)


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
