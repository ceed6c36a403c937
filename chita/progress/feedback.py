"""What commands say on standard error, and in which form: the one place that decides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from chita.progress import Progress, Silent
from chita.progress.form import Json, line
from chita.progress.lines import Lines, say
from chita.progress.screen import stderr
from chita.progress.shown import shown

PERIOD = 1.0
"""Seconds between two lines of one task, where they are for programs."""


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
        pairs = pairwise([*arguments, ""])
        json = any(
            word == "--log-format=json" or (word, after) == ("--log-format", "json")
            for word, after in pairs
        )
        return cls(quiet="--quiet" in arguments, json=json)

    @property
    def live(self) -> bool:
        """Whether pictures that change can be shown."""
        able = stderr.is_terminal and not stderr.is_dumb_terminal
        return able and not self.quiet and not self.json

    def progress(self) -> Progress:
        """Return what long work reports to."""
        if self.quiet:
            return Silent()
        return Lines(stderr, Json(), period=PERIOD) if self.json else shown(stderr)

    def notice(self, message: str) -> None:
        """Say what is good to know."""
        if not self.quiet:
            say(stderr, line("notice", message=message) if self.json else message)

    def error(self, message: str, sign: str = "Error: ") -> None:
        """Say why there is no result; `sign` stands before it for people."""
        say(stderr, line("error", message=message) if self.json else f"{sign}{message}")

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Say the warnings of other packages in this form while a block runs."""
        if not self.json:
            yield
            return
        with warnings.catch_warnings():
            warnings.showwarning = self._warn  # type: ignore[assignment]
            yield

    def _warn(self, message: Warning | str, *_: object) -> None:
        if not self.quiet:
            say(stderr, line("warning", message=str(message)))
