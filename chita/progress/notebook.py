"""Progress in a notebook, which needs nothing beside the notebook itself."""

from __future__ import annotations

import html
import importlib
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

from chita.progress.beat import Beat
from chita.progress.form import FINISH, Words, meanwhile
from chita.progress.running import Running

_LINES = 12  # of what is done that stay
_PERIOD = 0.5


def notebook_display() -> Callable[..., Any] | None:
    """Return IPython's `display` where a notebook's kernel runs this, None elsewhere."""
    ipython = sys.modules.get("IPython")  # which a kernel has imported
    shell = None if ipython is None else ipython.get_ipython()
    if not hasattr(shell, "kernel"):  # a shell in a terminal has none
        return None
    try:
        display: Callable[..., Any] = importlib.import_module("IPython.display").display
    except (ImportError, AttributeError):
        return None
    return display


@final
class Notebook:
    """One output that is drawn anew: the last lines of what is done, and a bar.

    Args:
        display: IPython's, which returns a handle when it is given a `display_id`.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display, self._words = display, Words()
        self._running, self._lines = Running(), deque[str](maxlen=_LINES)
        self._handle: Any = None
        self._beat: Beat | None = None

    def start(self, task: str, total: int, unit: str) -> None:
        """Open a bar."""
        self._running.start(task, total, unit)
        self._draw(busy=True)
        self._beat = Beat(lambda: self._draw(busy=True), _PERIOD)

    def advance(self, amount: int) -> None:
        """Move it."""
        self._running.advance(amount)

    def finish(self) -> None:
        """Close it and leave one line."""
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
        self._lines.append(str(self._words.event(FINISH, self._running)))
        self._draw(busy=False)

    def tell(self, task: str, values: Mapping[str, float]) -> None:
        """Leave a line."""
        self._running.tell(values)
        self._lines.append(self._words.told(task, values))
        self._draw(busy=self._beat is not None)

    def _draw(self, *, busy: bool) -> None:
        picture = _Picture(tuple(self._lines), self._running if busy else None)
        if self._handle is None:
            self._handle = self._display(picture, display_id=True)
        else:
            self._handle.update(picture)


@final
class _Picture:
    """What IPython shows: HTML, or text where that is all there is."""

    def __init__(self, lines: tuple[str, ...], running: Running | None) -> None:
        self._lines, self._running = lines, running

    def __repr__(self) -> str:
        now = self._running
        return "\n".join([*self._lines, *([f"{now.task}: {meanwhile(now)}"] if now else [])])

    def _repr_html_(self) -> str:
        drawn = f"<pre>{html.escape(chr(10).join(self._lines))}</pre>" if self._lines else ""
        now = self._running
        if now is None:
            return drawn
        of = f' value="{now.done}" max="{now.total}"' if now.total > 1 else ""
        told = html.escape(f"{now.task}: {meanwhile(now)}")
        return f"{drawn}<progress{of}></progress> {told}"
