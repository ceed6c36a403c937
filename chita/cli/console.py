"""Where text goes: results to standard output, all else to standard error."""

from __future__ import annotations

import time
from typing import final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

# Names and messages are shown as they are: `own.nets:lock` is no picture of a lock.
stdout = Console(markup=False, emoji=False)
stderr = Console(stderr=True, markup=False, emoji=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


@final
class ConsoleProgress:
    """A bar with rate and remaining time on a terminal; one line per task anywhere else."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task = ("", 0, "")
        self._done = 0
        self._began = 0.0

    def start(self, task: str, total: int, unit: str) -> None:
        """Open a bar."""
        self._task, self._done, self._began = (task, total, unit), 0, time.perf_counter()
        if stderr.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                console=stderr,
                transient=True,
            )
            self._bars.start()
            self._bars.add_task(task, total=total or None, unit=unit)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        self._done += amount
        if self._bars is not None:
            self._bars.advance(self._bars.tasks[0].id, amount)

    def finish(self) -> None:
        """Close the bar and leave one line."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        task, total, unit = self._task
        seconds = time.perf_counter() - self._began
        of = f" of {total:,}" if total else ""
        stderr.print(f"{task}: {self._done:,}{of} {unit}, {seconds:.2f} s", highlight=False)
