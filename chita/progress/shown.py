"""Where progress is shown: in a notebook, on a terminal, or as lines."""

from __future__ import annotations

from rich.console import Console

from chita.errors import InputError
from chita.progress import Progress, Silent
from chita.progress.bar import Bar
from chita.progress.form import Words
from chita.progress.lines import Lines
from chita.progress.notebook import Notebook, notebook_display

PERIOD = 30.0
"""Seconds between two lines of one task, where they are for people."""

_METHODS = ("start", "advance", "finish", "tell")

ProgressLike = Progress | bool | None
"""What receives progress; True for what `shown` finds, False or None for nobody."""


def shown(console: Console) -> Progress:
    """Return progress as it is best seen: in a notebook, a terminal, or as lines elsewhere."""
    display = notebook_display()
    if display is not None:
        return Notebook(display)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(console)
    return Lines(console, Words(), period=PERIOD)


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
