"""Options: fields of frozen dataclasses that hold their default, their range and their help.

A class of options derives from `Options`, and each of its fields is made by `option`. Values are
checked when an object is made, `help()` lists the fields, and the command line, run files and
records are generated from the same description (`described`). Nothing is said twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields, replace
from functools import cache
from numbers import Real
from operator import ge, gt, le, lt
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Union,
    dataclass_transform,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from chita.arguments import whole
from chita.errors import InputError
from chita.naming import guessed

_KEY = "option"
_SCALARS = {bool, int, float, str}
_HOLDS = {"at_least": ge, "above": gt, "at_most": le, "below": lt}  # a limit of a number's range


@final
@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is known of an option beside its name, its type and its default.

    Fields:
        help: one sentence.
        at_least, above, at_most, below: its range, where it is a number.
        choices: its values where it is a text; beside a number, the texts that stand for one.
        unset: what None, or a missing value, comes to.
        flag: its name on the command line, with underscores, where that is not the field's.
        value: what stands for its value in help, such as FOLDER.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    unset: str | None = None
    flag: str | None = None
    value: str | None = None

    @property
    def range(self) -> str:
        """The range in words, empty without one."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        limits = ((name.replace("_", " "), getattr(self, name)) for name in _HOLDS)
        return " and ".join(f"{word} {n:g}" for word, n in limits if n is not None)

    def allows(self, number: float) -> bool:
        """Return whether a number lies in the range."""
        limits = ((holds, getattr(self, name)) for name, holds in _HOLDS.items())
        return all(holds(number, n) for holds, n in limits if n is not None)


def option(default: Any = MISSING, help: str = "", **spec: Any) -> Any:  # noqa: A002
    """Return a dataclass field for an option; see `Spec` for what `spec` may name.

    Without a default the option must be given.

    >>> class Oven(Options):
    ...     heat: int = option(180, "Degrees.", at_least=0, at_most=300)
    >>> Oven(heat=500)
    Traceback (most recent call last):
        ...
    chita.errors.InputError: `heat` is 500; give a whole number from 0 to 300. Degrees.
    """
    return field(default=default, metadata={"help": help, _KEY: Spec(help=help, **spec)})


def shared(
    owner: type[Options], name: str, default: Any = MISSING, *, required: bool = False
) -> Any:
    """Return a field for an option that another class describes.

    Its default is that of the other class where none is given, unless it is `required`.
    """
    found = next(f for f in fields(owner) if f.name == name)  # type: ignore[arg-type]
    usual = found.default if default is MISSING and not required else default
    return field(default=usual, metadata=found.metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Options:
    """Base of all classes of options, which become frozen dataclasses as they are defined.

    Their fields are made by `option`. They are given by name; a class defined with `kw_only=False`
    takes those before `KW_ONLY` by position, too.

    Raises `InputError` that lists all values that cannot be used. A subclass that checks more
    calls `super().__post_init__()` first.
    """

    declared: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls, *, kw_only: bool = True, eq: bool = True) -> None:
        super().__init_subclass__()
        told = (cls.__doc__ or "").rstrip()
        dataclass(frozen=True, kw_only=kw_only, eq=eq)(cls)
        # `Options` freezes them, so that a decorator written out of habit finds nothing in its way.
        del cls.__setattr__, cls.__delattr__
        own = {f.name: f for f in fields(cls) if _KEY in f.metadata}  # type: ignore[arg-type]
        cls.declared = {**getattr(cls, "declared", {}), **own}
        listed = [*_listed(cls)]
        if listed:
            head, _, examples = told.partition("\n    >>> ")
            section = "\n".join(("    Fields:", *listed))
            tail = f"\n\n    >>> {examples}" if examples else ""
            cls.__doc__ = f"{head.rstrip()}\n\n{section}{tail}\n    "

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __post_init__(self) -> None:
        """Check every field; whole numbers and numbers become Python's own."""
        problems = []
        for entry in described(type(self)):
            try:
                value = entry.checked(getattr(self, entry.name))
            except InputError as error:
                problems.append(str(error))
            else:
                object.__setattr__(self, entry.name, value)
        if problems:
            raise InputError(" ".join(problems))


@final
@dataclass(frozen=True, kw_only=True)
class Described:
    """One option of a class: its `name`, `kinds` (types of its values), `default` and `spec`.

    `required` is for one that must be given; its `default` is None.
    """

    name: str
    kinds: tuple[Any, ...]
    default: Any
    spec: Spec
    required: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line and in run files, with underscores."""
        return self.spec.flag or self.name

    def read(self, text: str) -> Any:
        """Return what a text stands for, as its type asks for; the text itself where nothing does.

        >>> Described(name="on", kinds=(bool,), default=True, spec=Spec(help="")).read("false")
        False
        """
        if str in self.kinds:
            return text
        words: dict[str, bool | None] = {}
        words |= {"true": True, "false": False} if bool in self.kinds else {}
        words |= {"none": None} if NoneType in self.kinds else {}
        if text.lower() in words:
            return words[text.lower()]
        return self.numbered(text)

    def numbered(self, text: str) -> Any:
        """Return the number that a text stands for, where the type asks for one; else the text."""
        for kind in (int, float):
            if kind in self.kinds:
                with suppress(ValueError):
                    return kind(text)
        return text

    @property
    def shapes(self) -> dict[Any, Any]:
        """Of its types that hold others, what they hold: tuple to float, dict to str."""
        return {get_origin(k): get_args(k)[0] for k in self.kinds if get_origin(k)}

    def checked(self, value: Any) -> Any:
        """Return a value as its type asks for.

        Raises `InputError` when it is of no type that is accepted, or out of range.
        """
        kinds, spec = self.kinds, self.spec
        if value is None and NoneType in kinds:
            return None
        if str not in kinds and not {Path, tuple, dict}.isdisjoint((*kinds, *self.shapes)):
            return self._held(value)
        if isinstance(value, str):
            if value in spec.choices:
                return value
            if str in kinds:  # the command line cannot know which kind is meant
                value = self.numbered(value)
            if isinstance(value, str) and str in kinds and not spec.choices:
                return value
        if isinstance(value, bool):
            if bool in kinds:
                return value
        elif int in kinds and (number := whole(value)) is not None:
            if spec.allows(number):
                return number
        elif float in kinds and isinstance(value, Real) and math.isfinite(value):
            if spec.allows(float(value)):
                return float(value)
        elif any(isinstance(value, kind) for kind in _classes(kinds)):
            if not isinstance(value, str):
                return value
        elif _SCALARS.isdisjoint(kinds):
            return value  # of a class that checks its own fields
        guess = guessed(str(value), spec.choices)
        raise InputError(f"`{self.flag}` is {value!r}; give {self._accepted}. {guess}{spec.help}")

    def _held(self, value: Any) -> Any:
        """Return a path, a sequence or a table as such; `InputError` where it cannot be one."""
        if Path in self.kinds:
            expected = "a path" + (" without null bytes" if "\0" in str(value) else "")
            if isinstance(value, (str, Path)) and "\0" not in str(value):
                return Path(value)
        elif dict in self.shapes:
            expected = "a table of numbers, texts, true and false"
            if isinstance(value, Mapping) and _SCALARS.issuperset(map(type, value.values())):
                return {str(name): own for name, own in value.items()}
        else:
            item = replace(self, kinds=(self.shapes[tuple],))
            numbers = float in item.kinds
            expected = "a text, or a list of texts"
            if numbers:
                expected = "numbers with commas between them, such as 0.5,0.8"
            items = value
            if isinstance(value, str):
                items = map(item.numbered, value.split(",")) if numbers else [value]
            with suppress(TypeError, InputError):
                return tuple(map(item.checked, items))
        raise InputError(f"`{self.flag}` is {value!r}; give {expected}. {self.spec.help}")

    @property
    def _accepted(self) -> str:
        """What is accepted, in words."""
        kinds = self.kinds
        found = []
        if bool in kinds:
            found.append("True or False")
        if int in kinds or float in kinds:
            number, limits = "a whole number" if int in kinds else "a number", self.spec.range
            joint = " of " if limits.startswith("at ") else " " if limits else ""
            found.append(f"{number}{joint}{limits}")
        if self.spec.choices:
            several = "one of " if len(self.spec.choices) > 1 else ""
            found.append(several + ", ".join(map(repr, self.spec.choices)))
        elif str in kinds:
            found.append("a text")
        return " or ".join(found) or "another value"

    @property
    def told(self) -> str:
        """The help, and in brackets the default and the range."""
        usual = self.spec.unset if self.default is None else _shown(self.default)
        notes = [f"default: {usual}"] if usual else []
        notes += [self.spec.range] if self.spec.range else []
        return self.spec.help + (f" [{'; '.join(notes)}]" if notes else "")


def described(kind: type[Options]) -> tuple[Described, ...]:
    """Return the options of a class, in the order of its fields."""
    owner: Any = kind  # a class is hashable, which mypy doubts of one that has fields
    return _described(owner)


def values_of(options: Options) -> dict[str, Any]:
    """Return the options of an object by their flags, as plain data."""
    return {e.flag: plain(getattr(options, e.name)) for e in described(type(options))}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: sequences as lists, other objects as their text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


@cache
def _described(kind: Any) -> tuple[Described, ...]:
    return tuple(
        Described(
            name=f.name,
            kinds=_kinds(_hint(kind, f)),
            default=None if f.default is MISSING else f.default,
            spec=f.metadata[_KEY],
            required=f.default is MISSING,
        )
        for f in kind.declared.values()
    )


def _hint(kind: type, f: Field[Any]) -> Any:
    """The type of a field; those of others, which may be imported for checkers only, stay texts."""
    owner = next(base for base in kind.__mro__ if f.name in vars(base).get("__annotations__", {}))
    alone = type("_", (), {"__annotations__": {f.name: f.type}, "__module__": owner.__module__})
    return get_type_hints(alone)[f.name]


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _classes(kinds: tuple[Any, ...]) -> Iterator[type]:
    """The classes among types, numbers and texts aside: these have a check of their own."""
    for kind in kinds:
        found = get_origin(kind) or kind
        if isinstance(found, type) and found not in _SCALARS:
            yield found


def _listed(kind: Any) -> Iterator[str]:
    """The lines of a docstring that list the options a class declares or inherits."""
    for found in kind.declared.values():
        spec = found.metadata[_KEY]
        notes = [f"One of {', '.join(spec.choices)}"] if len(spec.choices) > 1 else []
        notes += [spec.range.capitalize()] if spec.range else []
        if found.default is not MISSING:
            unset = f", which is {spec.unset}" if found.default is None and spec.unset else ""
            notes.append(f"Default: {found.default!r}{unset}")
        yield f"        {found.name}: {' '.join([spec.help, *(f'{note}.' for note in notes)])}"


def _shown(value: Any) -> str:
    """A default as people read it; none for what speaks for itself."""
    if value is MISSING or value is False or value in ((), {}):
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
