"""Settings by name: groups of options as run files and records hold them, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, dataclass_transform, final, get_args, get_origin, get_type_hints

from chita.errors import InputError
from chita.naming import nearest
from chita.options import Described, Options, described, plain

UNSAVED = "report"
"""The group of what a command says; no run file and no record has it."""

_PART = "part"


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """What a request takes of a group.

    Fields: `only` these options, if any are named; `without` these; `positional`, those without a
    flag; `shown`, whether the command line has them, or only run files, and nothing comes of them.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    shown: bool = True


def part(*only: str, **fields: Any) -> Any:
    """Return the field of a group of which a request takes only a part."""
    return field(metadata={_PART: Part(only=only, **fields)})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(part,))
class Request:
    """Base of what commands are asked for: frozen dataclasses whose fields are groups of options.

    A group that may be None is off unless something of it is given.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(frozen=True, kw_only=True)(cls)


_R = TypeVar("_R", bound=Request)


@final
@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of a request: its `name` there, its class `kind`, and what is taken of it, `part`.

    `nested` is a group that may be off: names of its options begin with its own.
    """

    name: str
    kind: type[Options]
    nested: bool
    part: Part

    def leaves(self) -> Iterator[Leaf]:
        """Return its options that the request takes."""
        own: dict[str, Field[Any]] = {f.name: f for f in fields(self.kind)}  # type: ignore[arg-type]
        for entry in described(self.kind):
            listed = not self.part.only or entry.name in self.part.only
            if listed and entry.name not in self.part.without:
                yield Leaf(group=self, entry=entry, required=own[entry.name].default is MISSING)


@final
@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One option of a request: its `group`, what is known of it, and whether it is `required`."""

    group: Group
    entry: Described
    required: bool

    @property
    def name(self) -> str:
        """Its name in run files and records."""
        return f"{self.group.name}.{self.entry.name}" if self.group.nested else self.entry.flag

    @property
    def positional(self) -> bool:
        """Whether it has no flag."""
        return self.entry.name in self.group.part.positional

    @property
    def flag(self) -> str:
        """Its name on the command line: that of a table is in the singular, as it is repeated."""
        if self.positional:
            return self.name.upper()
        name = self.name.removesuffix("s") if self.repeated and dict in self.shapes else self.name
        return f"--{name.replace('_', '-')}"

    @property
    def negative(self) -> str:
        """Its flag where it is false."""
        stem, dot, name = self.flag.removeprefix("--").rpartition(".")
        return f"--{stem}{dot}no-{name}"

    @property
    def switches(self) -> bool:
        """Whether it is the first of a group that may be off, which comes with it."""
        return self.group.nested and self.entry == described(self.group.kind)[0]

    @property
    def shapes(self) -> dict[Any, Any]:
        """Of its types that hold others, what they hold: tuple to float, dict to str."""
        return {get_origin(k): get_args(k)[0] for k in self.entry.kinds if get_origin(k)}

    @property
    def repeated(self) -> bool:
        """Whether the command line gives each of its values by itself."""
        several = bool(self.shapes) and self.shapes.get(tuple) is not float
        return several and str not in self.entry.kinds

    def read(self, given: Any) -> Any:
        """Return what the command line gives, with texts as the numbers that they stand for."""
        kinds = self.entry.kinds
        if isinstance(given, list) and dict in self.shapes:
            return dict(text.partition("=")[::2] for text in given)
        if isinstance(given, str) and str not in kinds:
            for kind in {int, float}.intersection(kinds):
                with suppress(ValueError):
                    return kind(given)
        return given

    def typed(self, value: Any) -> Any:
        """Return a value with its paths and sequences as such; numbers are left to its class.

        Raises `InputError` where it cannot be.
        """
        if value is None or str in self.entry.kinds:
            return value
        item, expected = self.shapes.get(tuple), "a path without null bytes"
        try:
            if Path in self.entry.kinds:
                return _path(value)
            if dict in self.shapes:
                expected = "a table of numbers, texts, true and false"
                return _table(value)
            if item is float:
                expected = "numbers with commas between them, such as 0.5,0.8"
                return tuple(map(_number, value.split(",") if isinstance(value, str) else value))
            if item is not None:
                expected = "a text, or a list of texts"
                texts = [value] if isinstance(value, str) else value
                return tuple(map(_path if item is Path else _text, texts))
        except (TypeError, ValueError):
            raise InputError(
                f"`{self.name}` is {value!r}; give {expected}. {self.entry.spec.help}"
            ) from None
        return value


def groups(request: type[Request]) -> Iterator[Group]:
    """Return the groups of a request, whose classes are looked up every time."""
    hints = get_type_hints(request)
    for entry in fields(request):  # type: ignore[arg-type]
        kinds = get_args(hints[entry.name]) or (hints[entry.name],)
        yield Group(
            name=entry.name,
            kind=kinds[0],
            nested=NoneType in kinds,
            part=entry.metadata.get(_PART, Part()),
        )


def leaves(request: type[Request]) -> tuple[Leaf, ...]:
    """Return all options of a request, in its order."""
    return tuple(leaf for group in groups(request) for leaf in group.leaves())


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a run file holds. Raises `InputError` when it cannot be read, or is no TOML."""
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The run file {path} is not TOML: {error}. Correct that line.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"The run file {path} cannot be read: {error}. Check `config`.") from None


def named(kind: type[Request], raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return settings by the names of options, whether they stood alone or in tables of groups.

    Raises `InputError` that lists all that are unknown, or given twice; `source` names the file.
    """
    known: dict[str, Leaf] = {}
    for leaf in leaves(kind):
        if leaf.group.name != UNSAVED:
            known[leaf.name] = known[f"{leaf.group.name}.{leaf.entry.name}"] = leaf
    found: dict[str, Any] = {}
    labels: dict[str, str] = {}
    unknown, twice = [], []
    for label, value in _entries(kind, raw, found, source):
        name = label.replace("-", "_")
        if name not in known:
            table, dot, own = name.rpartition(".")
            near = [n.removeprefix(table + dot) for n in known if n.rpartition(".")[0] == table]
            unknown.append(f"{name!r}: {nearest(own, near)}")
        elif known[name].name in labels:
            twice.append(f"{labels[known[name].name]} and {label}")
        else:
            labels[known[name].name], found[known[name].name] = label, value
    if unknown:
        raise InputError(f"{source} has unknown options. {' '.join(unknown)}")
    if twice:
        raise InputError(f"{source} gives {', '.join(twice)}, the same option. Keep one of them.")
    return found


def _entries(
    kind: type[Request], raw: Mapping[str, Any], found: dict[str, Any], source: str
) -> Iterator[tuple[str, Any]]:
    """Each setting with its name, that of its table before it; `found` is told of nested tables."""
    tables = {group.name: group.nested for group in groups(kind)}
    for name, value in raw.items():
        table = name.replace("-", "_")
        if table in tables and isinstance(value, Mapping):
            yield from ((f"{name}.{own}", item) for own, item in value.items())
            found |= {table: {}} if tables[table] else {}
        elif not tables.get(table):
            yield name, value
        elif value is not None:
            raise InputError(f"{source} has {name} = {value!r}; give a table [{name}].")


def merged(
    kind: type[Request], stored: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings by the names of options, where some are `chosen` before those `stored`.

    Budgets are replaced together, since together they say what is kept. Options of a solver go with
    it; of the same one, and in other tables, each is chosen by itself.
    """
    budgets = {leaf.name for leaf in leaves(kind) if leaf.group.name == "budget"} - {"min_keep"}
    gone = budgets if budgets & chosen.keys() else set()
    if chosen.get("solver", stored.get("solver")) != stored.get("solver"):
        gone |= {"options"}
    found = {name: value for name, value in stored.items() if name not in gone}
    for name, value in chosen.items():
        before = found.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        found[name] = value
    return found


def request_of(kind: type[_R], settings: Mapping[str, Any], source: str = "The record") -> _R:
    """Return the request of settings by name, as `flat` returns them or a run file has them.

    Raises `InputError` on what is unknown or cannot be used.
    """
    return built(kind, named(kind, settings, source))


def built(kind: type[_R], values: Mapping[str, Any]) -> _R:
    """Return the request of values by the names of options.

    Raises `InputError` that lists all values that cannot be used, and options that are missing.
    """
    made: dict[str, Any] = {}
    problems: list[str] = []
    for group in groups(kind):
        given: dict[str, Any] = {}
        missing = False
        for leaf in group.leaves():
            if leaf.name in values:
                try:
                    given[leaf.entry.name] = leaf.typed(values[leaf.name])
                except InputError as error:
                    problems.append(str(error))
            elif leaf.required:
                missing = True
                problems.append(f"`{leaf.name}` is missing. {leaf.entry.spec.help}")
        on = not group.nested or given or group.name in values
        try:
            made[group.name] = group.kind(**given) if on and not missing else None
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(" ".join(problems))
    return kind(**made)


def flat(request: Request) -> dict[str, Any]:
    """Return the options of a request by name, as plain data; a nested group as a table or None.

    >>> from chita.cli.requests import PruneRequest
    >>> asked = flat(request_of(PruneRequest, {"fisher": {"samples": 500}}))
    >>> asked["samples"], asked["training"]
    (500, None)
    """
    found: dict[str, Any] = {}
    for leaf in leaves(type(request)):
        group = getattr(request, leaf.group.name)
        value = None if group is None else plain(getattr(group, leaf.entry.name))
        if leaf.group.nested:
            table = found.setdefault(leaf.group.name, None if group is None else {})
            if table is not None:
                table[leaf.entry.name] = value
        elif leaf.group.name != UNSAVED:
            found[leaf.name] = value
    return found


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise TypeError
    if "\0" in str(value):
        raise ValueError
    return Path(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    if not all(isinstance(item, (bool, int, float, str)) for item in value.values()):
        raise TypeError
    return {str(name): item for name, item in value.items()}
