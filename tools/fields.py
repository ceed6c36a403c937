"""Shows docstrings as they are meant: an extension of griffe in mkdocs.yml.

Griffe reads docstrings from the source. Those of classes of options have their fields added when
the class is made (`chita.options.Options`), which also makes them dataclasses, so these classes are
imported, and asked. The section of a class that lists its fields is named as Google's style knows
it, and examples become blocks of code.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

_FIELDS = re.compile(r"^(Class variables|Fields):(?=\n)", re.MULTILINE)
_EXAMPLE = re.compile(r"(?<=\n\n)>>> (?:.+\n?)+")
_OPTIONS = "chita.options.Options"


class Fields(griffe.Extension):
    """Changes the docstrings of a package."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change those of its classes and functions."""
        for found in _within(pkg):
            if found.docstring is None:
                continue
            text = found.docstring.value
            if isinstance(found, griffe.Class):
                if any(base.path == _OPTIONS for base in _bases(found)):
                    made = _imported(found)
                    text = inspect.getdoc(made) or ""
                    found.set_member("__init__", _constructor(made))
                text = _FIELDS.sub("Attributes:", text)
            found.docstring.value = _EXAMPLE.sub(_fenced, text)


def _within(
    scope: griffe.Module | griffe.Class,
) -> Iterator[griffe.Class | griffe.Function]:
    """All classes and functions of a module or a class, those of its modules too."""
    for member in scope.members.values():
        if isinstance(member, griffe.Class | griffe.Function):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from _within(member)


def _bases(cls: griffe.Class) -> Iterator[griffe.Class]:
    """The classes of this package that a class derives from."""
    for base in cls.resolved_bases:
        found = base.final_target if isinstance(base, griffe.Alias) else base
        if isinstance(found, griffe.Class):
            yield found
            yield from _bases(found)


def _imported(cls: griffe.Class) -> Any:
    """The class as it is when Python runs."""
    found: Any = importlib.import_module(cls.module.path)
    for name in cls.path.removeprefix(f"{cls.module.path}.").split("."):
        found = getattr(found, name)
    return found


def _constructor(made: Any) -> griffe.Function:
    """What makes an object of a class of options, with their types and defaults."""
    parameters = (
        griffe.Parameter(
            own.name,
            annotation=own.annotation,
            kind=griffe.ParameterKind(own.kind.description),
            default=None if own.default is own.empty else repr(own.default),
        )
        for own in inspect.signature(made).parameters.values()
    )
    first = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    return griffe.Function("__init__", parameters=griffe.Parameters(first, *parameters))


def _fenced(example: re.Match[str]) -> str:
    """An example as a block of code."""
    return f"```pycon\n{example[0].rstrip()}\n```\n"
