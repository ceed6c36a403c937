"""Lines of events: in words for people, as JSON for programs (docs/formats.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from chita.progress import RUN_SECONDS_LEFT

_TASK = ("task", "done", "total", "unit", "seconds", "rate", "seconds_left")


def json_line(event: str, fields: Mapping[str, Any]) -> str:
    """Return an event as one line of JSON, which has no numbers that are not finite.

    >>> json_line("values", {"task": "stage 2 of 9", "objective": -0.5})
    '{"event": "values", "task": "stage 2 of 9", "objective": -0.5}'
    """
    return json.dumps({"event": event, **{name: _finite(v) for name, v in fields.items()}})


def worded(event: str, fields: Mapping[str, Any]) -> str:
    """Return an event of progress in words.

    >>> values = {"task": "stage 2 of 9", "validation_loss": 0.25, "run_seconds_left": 600.0}
    >>> worded("values", values)
    'stage 2 of 9: validation loss 0.25, about 10 min left in all'
    """
    values = _values(fields)
    if event == "values":
        return f"{fields['task']}: {values or 'done'}"
    of = f" of {fields['total']:,}" if fields["total"] else ""
    one = (fields["total"] or fields["done"]) == 1
    unit = fields["unit"] if of or not one else fields["unit"].removesuffix("s")
    amount = f"{fields['done']:,}{of} {unit}, {fields['seconds']:.2f} s"
    if fields["rate"] is not None and not one:
        amount += f", {_number(fields['rate'])} {fields['unit']}/s"
    line = f"{fields['task']}: {amount}"
    if event == "finish":
        return line
    own_left = fields["seconds_left"] and RUN_SECONDS_LEFT not in fields  # one estimate is enough
    line += f", about {_duration(fields['seconds_left'])} left" if own_left else ""
    return f"{line}; {values}" if values else line


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _values(fields: Mapping[str, Any]) -> str:
    """Return the values beside those of a task, with their names."""
    known = {name: value for name, value in fields.items() if name not in _TASK}
    left = known.pop(RUN_SECONDS_LEFT, 0.0)
    words = [f"{_named(name)} {value:.4g}" for name, value in known.items()]
    return ", ".join([*words, *([f"about {_duration(left)} left in all"] if left > 0 else [])])


def _named(name: str) -> str:
    """Return the name of a value before it; one of several words, as of a measure, with a colon.

    >>> _named("validation_loss"), _named("top-1 accuracy, per cent")
    ('validation loss', 'top-1 accuracy, per cent:')
    """
    return f"{name}:" if " " in name else name.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
