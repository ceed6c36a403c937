"""Output of commands, and its form: the one place that decides.

Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from rich.console import Console

from chita.progress import Progress, Silent
from chita.progress.display import json_lines, shown
from chita.progress.lines import json_line, say

_UNFOLDED = 10_000


def whole_console(**options: Any) -> Console:
    """Return a console that folds lines only on a terminal, or where COLUMNS asks for it.

    In a pipe or a file names and numbers stay whole. They are shown as they are: `own.nets:lock` is
    no picture of a lock.
    """
    console = Console(markup=False, emoji=False, **options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNFOLDED
    return console


stdout = whole_console()
stderr = whole_console(stderr=True)


@final
@dataclass(frozen=True, kw_only=True)
class Feedback:
    """Progress, notices and errors.

    Fields: `quiet`, only errors; `json`, one object a line (docs/formats.md), else for people.
    """

    quiet: bool = False
    json: bool = False

    @classmethod
    def asked(cls, arguments: Sequence[str]) -> Feedback:
        """Return what a command line asks for that may not be readable as a whole."""
        json = re.search("--log-format[= ]json( |$)", " ".join(arguments)) is not None
        return cls(quiet="--quiet" in arguments, json=json)

    def progress(self) -> Progress:
        """Return what long work reports to."""
        if self.quiet:
            return Silent()
        return json_lines(stderr) if self.json else shown(stderr)

    def notice(self, message: str) -> None:
        """Show what is good to know."""
        if not self.quiet:
            self._say("notice", message)

    def error(self, message: str, sign: str = "Error: ") -> None:
        """Show why there is no result; `sign` stands before it for people."""
        self._say("error", message, sign)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Show the warnings of other packages in this form while a block runs."""
        with warnings.catch_warnings():
            if self.json:
                warnings.showwarning = self._warn  # type: ignore[assignment]
            yield

    def _warn(self, message: Warning | str, *_: object) -> None:
        if not self.quiet:
            self._say("warning", str(message))

    def _say(self, event: str, message: str, sign: str = "") -> None:
        line = json_line(event, {"message": message}) if self.json else f"{sign}{message}"
        say(stderr, line)
