"""Progress as it is seen: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from chita.errors import InputError
from chita.progress import RUN_SECONDS_LEFT, Progress, Silent
from chita.progress.lines import json_line, say, worded

PERIOD = 10.0
"""Seconds between two lines of one task in words, also while nothing advances."""

JSON_PERIOD = 1.0
"""The same between two lines of JSON."""

ProgressLike = Progress | bool | None
"""A receiver of progress; True for the one that `shown` finds, False or None for none."""

_WIDTH = 40  # of a bar, in characters
_METHODS = ("start", "advance", "finish", "report")
_Write = Callable[[str, Mapping[str, Any]], None]
_Fields = Callable[[], dict[str, Any]]


@final
class Display:
    """Progress that is shown: the running task in numbers, and the latest values.

    Args:
        write: prints an event, by its name and fields (docs/formats.md, "Progress as JSON").
        during: shows the fields of the running task, as they are at any time, while a block runs.
        clock: seconds.
    """

    def __init__(
        self,
        write: _Write,
        during: Callable[[_Fields], AbstractContextManager[None]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._write, self._during, self._clock = write, during, clock
        self._open = ExitStack()
        self._task, self._total, self._unit, self._done, self._began = "", 0, "", 0, 0.0
        self._values: dict[str, float] = {}
        self._end: float | None = None  # of the run, as it is expected

    def start(self, task: str, total: int, unit: str) -> None:
        """Show a task until it ends."""
        self._task, self._total, self._unit, self._done = task, total, unit, 0
        self._began = self._clock()
        self._write("start", self.fields())
        self._open.enter_context(self._during(self.fields))

    def advance(self, amount: int) -> None:
        """Count what is done."""
        self._done += amount

    def finish(self) -> None:
        """Leave a line."""
        self._open.close()
        self._write("finish", self.fields())

    def report(self, task: str, values: Mapping[str, float]) -> None:
        """Leave a line, and show the values beside the next tasks."""
        own = dict(values)
        left = own.pop(RUN_SECONDS_LEFT, None)
        self._end = self._end if left is None else self._clock() + left
        self._values = {**self._values, **own}  # replaced whole, as another thread may read it
        self._write("values", {"task": task, **values})

    def fields(self) -> dict[str, Any]:
        """Return the fields of the running task as of now; the rate is a mean since it began."""
        now = self._clock()
        seconds = now - self._began
        rate = self._done / seconds if self._done and seconds > 0 else None
        left = max(0, self._total - self._done) / rate if rate and self._total else None
        run = {} if self._end is None or self._end <= now else {RUN_SECONDS_LEFT: self._end - now}
        return {
            "task": self._task,
            "done": self._done,
            "total": self._total or None,
            "unit": self._unit,
            "seconds": round(seconds, 3),
            "rate": rate,
            "seconds_left": left,
            **self._values,
            **run,
        }


def shown(console: Console) -> Progress:
    """Return progress as it is best seen: with a bar where one can move, else as lines."""
    able = console.is_terminal and not console.is_dumb_terminal
    if console.is_jupyter:
        able = find_spec("ipywidgets") is not None  # which rich needs there

    def write(event: str, fields: Mapping[str, Any]) -> None:
        if event != "start":  # not worth a line
            say(console, worded(event, fields))

    return Display(write, lambda fields: _bar(console, fields)) if able else _lines(write, PERIOD)


def json_lines(console: Console) -> Progress:
    """Return progress as JSON, one object a line."""
    return _lines(lambda event, fields: say(console, json_line(event, fields)), JSON_PERIOD)


def progress_of(asked: ProgressLike) -> Progress:
    """Return what receives progress.

    Raises `InputError` for what cannot.
    """
    if asked is None or asked is False:
        return Silent()
    if asked is True:
        return shown(Console(stderr=True))
    lacking = [name for name in _METHODS if not callable(getattr(asked, name, None))]
    if lacking:
        raise InputError(
            f"`progress` is {asked!r}, which has no {', '.join(lacking)}. Give True, or an object "
            f"with {', '.join(_METHODS)}, as chita.progress.Progress has them."
        )
    return asked


@contextmanager
def _bar(console: Console, fields: _Fields) -> Iterator[None]:
    """Show a bar, and what is done in words, while a block runs."""

    def picture() -> Group:
        now = fields()
        parts = now["total"] is not None and now["total"] > 1
        total = now["total"] if parts else None
        bar = ProgressBar(total=total, completed=now["done"], width=_WIDTH, pulse=not parts)
        return Group(Text(worded("advance", now)), bar)

    redirect = sys.stdout.isatty()  # what others print to a file or a pipe does not belong here
    live = Live(get_renderable=picture, console=console, transient=True, redirect_stdout=redirect)
    with live:
        live.refresh()
        yield


def _lines(write: _Write, period: float) -> Progress:
    """Return progress that writes an event every `period` seconds while a task runs."""

    @contextmanager
    def beating(fields: _Fields) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            while not over.wait(period):
                write("advance", fields())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return Display(write, beating)
