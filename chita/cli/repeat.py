"""The command line that does a run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from chita.cli.settings import NetworkSettings
from chita.training.recipe import Training

_ONCE = {"resume", "force", "out"}  # what a second run is not told: it replaces nothing
_REPEATED = {"targets", "ignore"}  # options given once for each of their values


def command_of(command: str, settings: NetworkSettings) -> str | None:
    """Return the line by which `chita` would get these settings, those that are defaults left out.

    None where a run file alone can say them (sparsities by tensor, in a table).

    >>> command_of("evaluate", NetworkSettings(model="digits-cnn", data_dir="my data"))
    "chita evaluate --model digits-cnn --data-dir 'my data'"
    """
    if isinstance(getattr(settings, "per_layer", None), dict):
        return None
    words = ["chita", command]
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name not in _ONCE and value != field.default:
            words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        yield flag if value else f"--no-{name.replace('_', '-')}"
    elif isinstance(value, Training):
        given, plain = asdict(value), asdict(Training())
        for field, own in given.items():
            if own != plain[field] or field == "epochs":
                yield from ("--train", f"{field}={own}")
    elif isinstance(value, dict):
        for field, own in value.items():
            yield from ("--option", f"{field}={own}")
    elif name in _REPEATED:
        for own in value:
            yield from (flag, own)
    elif isinstance(value, tuple):
        yield from (flag, ",".join(map(str, value)))
    else:
        yield from (flag, str(value))
