"""Settings by name: groups of options as run files and records hold them, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, dataclass_transform, final, get_args, get_type_hints

from chita.errors import InputError
from chita.naming import guessed
from chita.options import Described, Options, described, plain

UNSAVED = "report"
"""The group of what a command says; no run file and no record has it."""

_PART = "part"


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """What a request takes of a group.

    Fields: `only` these options, if any are named; `without` these; `positional`, those without a
    flag; `shown`, whether the command line has them, or only run files, and nothing comes of them;
    `unset`, what missing values come to, None for what the options say.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    shown: bool = True
    unset: str | None = None


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
        for entry in described(self.kind):
            listed = not self.part.only or entry.name in self.part.only
            if self.part.unset and entry.default is None:
                entry = replace(entry, spec=replace(entry.spec, unset=self.part.unset))
            if listed and entry.name not in self.part.without:
                yield Leaf(group=self, entry=entry)


@final
@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One option of a request: its `group`, and what is known of it."""

    group: Group
    entry: Described

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
        table = self.repeated and dict in self.entry.shapes
        name = self.name.removesuffix("s") if table else self.name
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
    def repeated(self) -> bool:
        """Whether the command line gives each of its values by itself."""
        several = bool(self.entry.shapes) and self.entry.shapes.get(tuple) is not float
        return several and str not in self.entry.kinds

    def read(self, given: Any) -> Any:
        """Return what the command line gives, with texts as the numbers that they stand for."""
        kinds = self.entry.kinds
        if isinstance(given, list) and dict in self.entry.shapes:
            return dict(text.partition("=")[::2] for text in given)
        return self.entry.numbered(given) if isinstance(given, str) and str not in kinds else given


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
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The run file {path} is not TOML: {error}. Correct that line.") from None
    except (OSError, ValueError) as error:
        ask = "Save it as UTF-8." if isinstance(error, UnicodeError) else "Check the path."
        raise InputError(f"The run file {path} cannot be read: {error}. {ask}") from None


def sifted(
    kind: type[Request], raw: Mapping[str, Any], source: str, *, lists: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return settings by the names of options, whether they stand by themselves or in tables.

    Beside them, messages on all that is unknown or given twice; `source` names the file. With
    `lists` every value is a list of values, and a nested table may be one, too.
    """
    known: dict[str, str] = {}
    said: set[str] = set()
    for leaf in leaves(kind):
        names = {leaf.name, f"{leaf.group.name}.{leaf.entry.name}"}
        if leaf.group.name == UNSAVED:
            said |= names
        else:
            known |= dict.fromkeys(sorted(names), leaf.name)
    tables = {group.name: group for group in groups(kind)}
    if lists:
        known |= {name: name for name, group in tables.items() if group.nested}
    found: dict[str, Any] = {}
    labels: dict[str, str] = {}
    unknown, problems = [], []
    for label, value in _entries(tables, raw):
        name = label.replace("-", "_")
        if name in known and known[name] in labels:
            problems.append(
                f"{source} gives {labels[known[name]]} and {label}, the same option. Keep one of "
                "them."
            )
        elif name in known:
            labels[known[name]], found[known[name]] = label, value
        elif name in said:
            problems.append(f"{source} has {name!r}, which is only for the command line.")
        elif name not in tables:
            unknown.append(name)
        elif tables[name].nested and value in ({}, None):
            found |= {} if value is None else {name: value}
        else:
            problems.append(
                f"{source} has {label} = {value!r}; give {_table_of(tables[name], value)}."
            )
    if unknown:
        problems.insert(0, f"{source} has unknown options. {_guesses(unknown, known)}")
    return found, problems


def _entries(tables: Mapping[str, Group], raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each setting with its name, that of its table before it; before those of a table, {}."""
    for name, value in raw.items():
        table = tables.get(name.replace("-", "_"))
        if table is None or not isinstance(value, Mapping):
            yield name, value
        else:
            yield from [(name, {})] if table.nested else []
            yield from ((f"{name}.{own}", item) for own, item in value.items())


def _table_of(group: Group, value: Any) -> str:
    """How a group is given; where the value is a choice of one of its options, that too."""
    wanted = value if isinstance(value, list) else [value]
    fit = [e for e in described(group.kind) if wanted and all(v in e.spec.choices for v in wanted)]
    return " or ".join([f"a table [{group.name}]", *(f"`{entry.flag}`" for entry in fit)])


def _guesses(unknown: Sequence[str], known: Iterable[str]) -> str:
    """The options that may be meant; those that there are once for each table."""
    tables: dict[str, list[str]] = {}
    for name in unknown:
        tables.setdefault(name.rpartition(".")[0], []).append(name)
    told = []
    for table, names in tables.items():
        near = [n.rpartition(".")[2] for n in known if n.rpartition(".")[0] == table] or [*known]
        hints = {n: guessed(n.rpartition(".")[2], near) for n in names}
        told += [f"{name!r}: {hint.strip()}" for name, hint in hints.items() if hint]
        others = ", ".join(repr(name) for name, hint in hints.items() if not hint)
        told.append(f"{others}{': ' if others else ''}Known: {', '.join(near)}.")
    return " ".join(told)


def merged(
    kind: type[Request], stored: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings by the names of options, where some are `chosen` before those `stored`.

    Budgets are replaced together, since together they say what is kept. Options of a solver go with
    it; of the same one, and in other tables, each is chosen by itself.
    """
    own = leaves(kind)
    budgets = {leaf.name for leaf in own if leaf.group.name == "budget"} - {"min_keep"}
    gone = budgets if budgets & chosen.keys() else set()
    usual = {**{leaf.name: leaf.entry.default for leaf in own}, **stored}
    if chosen.get("solver", usual.get("solver")) != usual.get("solver"):
        gone |= {"options"}
    found = {name: value for name, value in stored.items() if name not in gone}
    for name, value in chosen.items():
        before = found.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        found[name] = value
    return found


def request_of(
    kind: type[_R],
    settings: Mapping[str, Any],
    source: str = "The record",
    chosen: Mapping[str, Any] | None = None,
) -> _R:
    """Return the request of settings by name, as `settings_of` returns them or a run file has them.

    Those `chosen`, by the names of options, go before them (`merged`).

    Raises `InputError` that lists all that is unknown or missing, or cannot be used.
    """
    made, problems = attempted(kind, settings, source, chosen)
    if made is None:
        raise InputError(" ".join(problems))
    return made


def attempted(
    kind: type[_R],
    settings: Mapping[str, Any],
    source: str,
    chosen: Mapping[str, Any] | None = None,
) -> tuple[_R | None, list[str]]:
    """Return the request that `request_of` returns, or None and all that is wrong."""
    stored, problems = sifted(kind, settings, source)
    values = merged(kind, stored, chosen or {})
    made: dict[str, Any] = {}
    for group in groups(kind):
        own = list(group.leaves())
        given = {leaf.entry.name: values[leaf.name] for leaf in own if leaf.name in values}
        missing = [leaf for leaf in own if leaf.entry.required and leaf.name not in values]
        problems += [f"`{leaf.name}` is missing. {leaf.entry.spec.help}" for leaf in missing]
        off = group.nested and not given and group.name not in values
        try:
            made[group.name] = None if off or missing else group.kind(**given)
        except InputError as error:
            problems.append(str(error))
    return None if problems else kind(**made), problems


def settings_of(request: Request) -> dict[str, Any]:
    """Return the options of a request by name, as plain data; a nested group as a table or None.

    >>> from chita.cli.requests import PruneRequest
    >>> asked = settings_of(request_of(PruneRequest, {"fisher": {"samples": 500}}))
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
