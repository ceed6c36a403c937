"""Commands with their options, generated from requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Group as Panel
from cyclopts import Parameter

from chita.options import Described
from chita.settings import Leaf, Request, groups, leaves, read_toml, request_of

MOST_USED = (
    *("model", "weights", "data", "sparsity", "solver"),
    *("stages", "samples", "out", "config", "json"),
)
"""Options that `--help` shows first."""

_VALUES = {bool: "true|false", Path: "PATH", int: "INT", float: "NUMBER"}


def command(kind: type[Request], name: str) -> Callable[..., int | None]:
    """Return a command with an option for each of a request.

    Its work is the function `name` of `chita.cli.NAME`, imported when the command runs; it takes
    the request, and may return an exit code.
    """
    shown = [leaf for leaf in leaves(kind) if leaf.group.part.shown]
    titles = ["options", "most used", *(group.name for group in groups(kind))]
    parameters = []
    for leaf in shown:
        title = leaf.group.name
        if len(shown) <= len(MOST_USED):
            title = "options"
        elif leaf.name in MOST_USED or leaf.entry.required or leaf.positional:
            title = "most used"
        panel = Panel(title, sort_key=titles.index(title))
        parameters.append(_parameter(leaf, kind, panel))
    signature = inspect.Signature(sorted(parameters, key=lambda p: p.kind))

    def run(*args: Any, **kwargs: Any) -> int | None:
        given = signature.bind(*args, **kwargs).arguments
        named = {label.replace("__", "."): value for label, value in given.items()}
        request = read_request(kind, named)
        code: int | None = getattr(import_module(f"chita.cli.{name}"), name)(request)
        return code

    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def usage(kind: type[Request]) -> str:
    """Return what must be given to a command, and whether more may be."""
    own = leaves(kind)
    must = [leaf for leaf in own if leaf.entry.required]
    words = [m.flag if m.positional else f"{m.flag} {placeholder(m.entry)}" for m in must]
    return " ".join([*words, "[OPTIONS]"] if len(own) > len(must) else words)


def _parameter(leaf: Leaf, kind: type[Request], panel: Panel) -> inspect.Parameter:
    """Return an option as cyclopts takes it: a text, unless it is repeated or has no value."""
    switch = bool in leaf.entry.kinds
    value: Any = bool if switch else list[str] if leaf.repeated else str
    own = Parameter(
        name=leaf.flag,
        help=flagged(leaf.entry.told, kind) + (" [required]" if leaf.entry.required else ""),
        group=panel,
        metavar=None if switch else placeholder(leaf.entry),
        negative=() if not switch or leaf.entry.default is False else leaf.negative,
        show_default=False,
        allow_repeating=None if leaf.repeated else True,
        required=False,
    )
    positional = inspect.Parameter.POSITIONAL_ONLY
    return inspect.Parameter(
        leaf.name.replace(".", "__"),
        positional if leaf.positional else inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[value | None, own],
    )


def placeholder(entry: Described) -> str:
    """Return what stands for a value of an option in help."""
    kinds = {*entry.kinds, *(item for kind in entry.kinds for item in get_args(kind)[:1])}
    words = "|".join(entry.spec.choices) or "TEXT"
    found = next((word for kind, word in _VALUES.items() if kind in kinds), words)
    return entry.spec.value or found


def flagged(message: str, kind: type[Request]) -> str:
    """Return a message with flags in place of the names in backticks that a command has."""
    own = leaves(kind)
    flags = {leaf.entry.flag: leaf.flag for leaf in own} | {leaf.name: leaf.flag for leaf in own}
    return re.sub(r"`([\w.]+)`", lambda found: flags.get(found[1], found[0]), message)


def read_request(kind: type[Request], given: Mapping[str, Any]) -> Request:
    """Return the request of a command line and its run file; `given` is by the names of options.

    Raises `InputError` where the file cannot be read, or options cannot be used: all at once.
    """
    known = {leaf.name: leaf for leaf in leaves(kind)}
    chosen = {n: known[n].read(value) for n, value in given.items() if value is not None}
    config = chosen.get("config")
    stored = read_toml(Path(config)) if config else {}
    return request_of(kind, stored, str(config), chosen)
