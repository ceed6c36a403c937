"""Progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chita.progress.form import FINISH, Words, meanwhile
from chita.progress.lines import say
from chita.progress.running import Running

_WIDTH = 24  # of the bar, in characters


@final
class Bar:
    """A bar, below it rate, time left and the values told so far; a line for each finished task."""

    def __init__(self, console: Console) -> None:
        self._console, self._words = console, Words()
        self._running = Running()
        self._live: Live | None = None

    def start(self, task: str, total: int, unit: str) -> None:
        """Open a bar."""
        self._running.start(task, total, unit)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            transient=True,
            # What others print to a file or a pipe is not for here.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start(refresh=True)

    def advance(self, amount: int) -> None:
        """Move it."""
        self._running.advance(amount)

    def finish(self) -> None:
        """Close it and leave one line."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        say(self._console, str(self._words.event(FINISH, self._running)))

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """Leave a line, and show the values under the next bars."""
        self._running.tell(values)
        say(self._console, self._words.told(task, values))

    def _picture(self) -> Group:
        running = self._running
        parts = running.total > 1
        bar = ProgressBar(
            total=running.total if parts else None,
            completed=running.done,
            width=_WIDTH,
            pulse=not parts,
        )
        first = Table.grid(padding=(0, 1))
        first.add_row(Text(running.task), bar)
        return Group(first, Text(f"  {meanwhile(running)}"))
