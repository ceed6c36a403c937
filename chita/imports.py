"""Objects of the user's own code, by `package.module:name`."""

from __future__ import annotations

import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from shlex import quote
from typing import Any

from chita.errors import InputError, failures_as
from chita.naming import nearest


def is_import(text: str) -> bool:
    """Return whether a text has the form `package.module:name`.

    >>> is_import("my.nets:small"), is_import("digits-mlp"), is_import("C:/data")
    (True, False, False)
    """
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), name])


def imported(text: str) -> Any:
    """Return the object named by `package.module:name`; the current folder is searched too.

    Raises `InputError` when the module cannot be imported or has no such name.
    """
    module_name, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    ask = "Run from the folder it lies in, or install it."
    with failures_as(InputError, f"{module_name!r} cannot be imported", ask, why=cause):
        module = importlib.import_module(module_name)
    if not hasattr(module, name):
        public = [entry for entry in vars(module) if not entry.startswith("_")]
        raise InputError(f"{module_name} has no {name!r}. {nearest(name, public)}")
    return getattr(module, name)


def called(text: str) -> Any:
    """Return what the function named by `package.module:name` returns when called.

    Raises `InputError` when it cannot be imported or called without arguments, or fails.
    """
    function = imported(text)
    if not callable(function):
        raise InputError(f"{text} is a {type(function).__name__}; it must be a function.")
    try:
        return function()
    except Exception as error:  # the user's code may raise anything
        trace = error.__traceback__
        refused = isinstance(error, TypeError) and trace is not None and trace.tb_next is None
        hint = " It is called without arguments." if refused else ""  # it was not even begun
        raise InputError(f"{text} fails: {cause(error)}.{hint}") from error


def optional(module: str, *, extra: str, what: str) -> Any:
    """Return a module of a library that an extra installs; `what` needs it, for the message.

    Raises `InputError` when it cannot be imported.
    """
    library = module.partition(".")[0]
    ask = f"Install it: {install(extra, [library])}."
    with failures_as(InputError, f"{what} needs {library}", ask):
        return importlib.import_module(module)  # what was built for another torch raises its own


def install(extra: str, libraries: Sequence[str]) -> str:
    """Return the command that installs what an extra of this package names.

    It names the libraries themselves, so it works however the package was installed; those given
    are for a copy of its source that was not.
    """
    try:
        named = _required(extra)
    except PackageNotFoundError:
        named = [*libraries]
    return f"pip install {' '.join(map(quote, named))}"


def _required(extra: str) -> list[str]:
    """The requirements of an extra, also those of the extras it takes in."""
    found: list[str] = []
    for line in requires(_PACKAGE) or ():
        requirement, _, marker = map(str.strip, line.partition(";"))
        inner = re.fullmatch(rf"{_PACKAGE}\[(.*)\]", requirement)
        if re.fullmatch(rf"extra == ['\"]{extra}['\"]", marker):
            parts = map(_required, inner[1].split(",")) if inner else [[requirement]]
            found += [own for part in parts for own in part]
    return list(dict.fromkeys(found))


def is_of(thing: object, library: str, name: str | None = None) -> bool:
    """Return whether the type of an object, or one above it, is a library's class.

    `name` is that of the class, None for any. The library is not imported for that, and attributes
    count for nothing: wrappers may answer for what is inside.
    """
    return any(
        kind.__module__.partition(".")[0] == library and name in (None, kind.__name__)
        for kind in type(thing).__mro__
    )


def cause(error: Exception) -> str:
    """Return what a failure of the user's code says, and where in that code it rose.

    >>> cause(KeyError("name"))
    "KeyError: 'name'"
    """
    own = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_own(frame.f_code.co_filename)
    ]
    return f"{type(error).__name__}: {error}{own[-1] if own else ''}"


def _is_own(file: str) -> bool:
    """Whether a file is no part of Python, of this package or of another that is installed."""
    path = Path(file)
    return not (
        file.startswith("<")
        or {"site-packages", "dist-packages"} & {*path.parts}
        or any(path.is_relative_to(folder) for folder in _OTHERS)
    )


_PACKAGE = "chita"
_OTHERS = (str(Path(__file__).parent), *map(sysconfig.get_path, ("stdlib", "platstdlib")))
