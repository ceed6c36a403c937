"""The command line that does a run again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from chita.options import plain
from chita.settings import UNSAVED, Leaf, Request, leaves

_ONCE = {"resume", "force", "out"}  # what a second run is not asked: it replaces nothing


def command_of(command: str, request: Request) -> str | None:
    """Return the line by which `chita` would get this request, options at their defaults left out.

    None where only a run file can say them (sparsities by tensor, in a table).

    >>> from chita.settings import request_of
    >>> from chita.cli.requests import EvaluateRequest
    >>> given = {"model": "digits-cnn", "data_dir": "my data"}
    >>> command_of("evaluate", request_of(EvaluateRequest, given))
    "chita evaluate --model digits-cnn --data-dir 'my data'"
    """
    words = ["chita", command]
    for leaf in leaves(type(request)):
        group = getattr(request, leaf.group.name)
        if group is None or leaf.group.name == UNSAVED or leaf.name in _ONCE:
            continue
        value = getattr(group, leaf.entry.name)
        if isinstance(value, dict) and not leaf.repeated:
            return None
        if value != leaf.entry.default or leaf.switches:
            words += _option(leaf, value)
    return shlex.join(words)


def _option(leaf: Leaf, value: Any) -> Iterator[str]:
    """Yield the words of one option; a value that begins with "-" must not look like a flag."""
    if isinstance(value, bool):
        yield leaf.flag if value else leaf.negative
        return
    if isinstance(value, dict):
        texts = [f"{name}={own}" for name, own in value.items()]
    else:
        items = value if isinstance(value, tuple) else (value,)
        texts = [str(plain(item)) for item in items]
    for text in texts if leaf.repeated else [",".join(texts)]:
        yield from [f"{leaf.flag}={text}"] if text.startswith("-") else [leaf.flag, text]
