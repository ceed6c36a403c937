"""Commands with their options, generated from requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from chita.settings import Leaf, Request, built, groups, leaves, merged, named, read_toml

MOST_USED = (
    *("model", "weights", "data", "sparsity", "solver"),
    *("stages", "samples", "out", "config", "json"),
)
"""Options that `--help` shows first."""

_VALUES = {Path: "PATH", int: "INT", float: "NUMBER"}  # what stands for a value in help
_R = TypeVar("_R", bound=Request)


def command(kind: type[Request], work: str) -> Callable[..., int | None]:
    """Return a command with an option for each of a request.

    `work` is "package.module:function", imported when the command runs; it takes the request, and
    may return an exit code.
    """
    shown = [leaf for leaf in leaves(kind) if leaf.group.part.shown]
    names = {leaf.name.replace(".", "__"): leaf.name for leaf in shown}
    panels = ["options", "most used", *(group.name for group in groups(kind))]
    parameters = []
    for leaf in shown:
        first = leaf.name in MOST_USED or leaf.required or leaf.positional
        panel = "most used" if first else leaf.group.name
        panel = panel if len(shown) > len(MOST_USED) else "options"
        group = Group(panel, sort_key=panels.index(panel))
        parameters.append(_parameter(leaf, kind, group))
    signature = inspect.Signature(sorted(parameters, key=lambda p: p.kind))

    def run(*args: Any, **kwargs: Any) -> int | None:
        given = signature.bind(*args, **kwargs).arguments
        request = read_request(kind, {names[name]: value for name, value in given.items()})
        module, _, function = work.partition(":")
        code: int | None = getattr(import_module(module), function)(request)
        return code

    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def usage(kind: type[Request]) -> str:
    """Return what must be given to a command, and whether more may be."""
    own = leaves(kind)
    must = [leaf for leaf in own if leaf.required]
    words = [leaf.flag if leaf.positional else f"{leaf.flag} {_value(leaf)}" for leaf in must]
    return " ".join([*words, "[OPTIONS]"] if len(own) > len(must) else words)


def _parameter(leaf: Leaf, kind: type[Request], panel: Group) -> inspect.Parameter:
    """An option as cyclopts takes it: a text, unless it is repeated or has no value."""
    switch = bool in leaf.entry.kinds
    value: Any = bool if switch else list[str] if leaf.repeated else str
    own = Parameter(
        name=leaf.flag,
        help=flagged(leaf.entry.told, kind) + (" [required]" if leaf.required else ""),
        group=panel,
        metavar=None if switch else _value(leaf),
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


def _value(leaf: Leaf) -> str:
    held = {*leaf.entry.kinds, *leaf.shapes.values()}
    words = "|".join(leaf.entry.spec.choices) or "TEXT"
    found = next((word for kind, word in _VALUES.items() if kind in held), words)
    return leaf.entry.spec.value or found


def flagged(message: str, kind: type[Request]) -> str:
    """Return a message with flags in place of the names in backticks that a command has."""
    own = leaves(kind)
    flags = {leaf.entry.flag: leaf.flag for leaf in own} | {leaf.name: leaf.flag for leaf in own}
    return re.sub(r"`([\w.]+)`", lambda found: flags.get(found[1], found[0]), message)


def read_request(kind: type[_R], given: Mapping[str, Any]) -> _R:
    """Return the request of a command line and its run file; `given` is by the names of options.

    Raises `InputError` where the file cannot be read, or options cannot be used: all at once.
    """
    known = {leaf.name: leaf for leaf in leaves(kind)}
    chosen = {n: known[n].read(value) for n, value in given.items() if value is not None}
    config = chosen.get("config")
    stored = named(kind, read_toml(Path(config)), str(config)) if config else {}
    return built(kind, merged(kind, stored, chosen))
