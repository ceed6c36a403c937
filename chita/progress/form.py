"""Progress in words and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Protocol, final

from chita.progress import RUN_SECONDS_LEFT
from chita.progress.running import Running

START, ADVANCE, FINISH = "start", "advance", "finish"


class Form(Protocol):
    """Makes lines of what happens."""

    def event(self, event: str, running: Running) -> str | None:
        """The line of a beginning, an advance or an end; None where it is not worth one."""

    def told(self, task: str, values: Mapping[str, float]) -> str:
        """The line of values that a task came to."""


@final
class Words:
    """Lines for people; the beginning of a task is not worth one.

    >>> print(Words().told("stage 2 of 9", {"held_out_loss": 0.25, "run_seconds_left": 600.0}))
    stage 2 of 9: held out loss 0.25, about 10 min left in all
    """

    def event(self, event: str, running: Running) -> str | None:
        """Return the line of an event."""
        if event == START:
            return None
        if event == FINISH:
            return f"{running.task}: {amount(running)}"
        return f"{running.task}: {meanwhile(running)}"

    def told(self, task: str, values: Mapping[str, float]) -> str:
        """Return the line of values."""
        return f"{task}: {in_words(values) or 'done'}"


@final
class Json:
    """One JSON object a line; see docs/formats.md.

    >>> Json().told("stage 2 of 9", {"objective": -0.5})
    '{"event": "values", "task": "stage 2 of 9", "objective": -0.5}'
    """

    def event(self, event: str, running: Running) -> str | None:
        """Return the line of an event."""
        return line(
            event,
            task=running.task,
            done=running.done,
            total=running.total or None,
            unit=running.unit,
            seconds=round(running.seconds, 3),
            rate=running.rate,
            seconds_left=running.seconds_left,
            **running.values,
        )

    def told(self, task: str, values: Mapping[str, float]) -> str:
        """Return the line of values."""
        return line("values", task=task, **values)


def line(event: str, **fields: object) -> str:
    """Return an event as one line of JSON, which has no numbers that are not finite."""
    return json.dumps({"event": event, **{name: _finite(value) for name, value in fields.items()}})


def amount(running: Running) -> str:
    """Return how much is done, in what time and at which rate."""
    of = f" of {running.total:,}" if running.total else ""
    told = f"{running.done:,}{of} {running.unit}, {running.seconds:.2f} s"
    rate = running.rate
    if rate is None or running.total == 1:
        return told
    return f"{told}, {_number(rate)} {running.unit}/s"


def meanwhile(running: Running) -> str:
    """Return the same with the time left, and the values told so far."""
    told, left, values = amount(running), running.seconds_left, running.values
    if left:
        told += f", about {_duration(left)} left"
    return f"{told}; {in_words(values)}" if values else told


def in_words(values: Mapping[str, float]) -> str:
    """Return values with their names."""
    told = [f"{n.replace('_', ' ')} {v:.4g}" for n, v in values.items() if n != RUN_SECONDS_LEFT]
    left = values.get(RUN_SECONDS_LEFT, 0.0)
    return ", ".join([*told, *([f"about {_duration(left)} left in all"] if left > 0 else [])])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
