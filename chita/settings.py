"""Settings by name: groups of options as run files and records hold them, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        return self.entry.numbered(given) if isinstance(given, str) and str not in kinds else given

    def typed(self, value: Any) -> Any:
        """Return a value with its paths and sequences as such; numbers are left to its class.

        Raises `InputError` where it cannot be.
        """
        if value is None or str in self.entry.kinds:
            return value
        item, expected = self.shapes.get(tuple), "a path"
        try:
            if Path in self.entry.kinds:
                expected += " without null bytes" if "\0" in str(value) else ""
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
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The run file {path} is not TOML: {error}. Correct that line.") from None
    except (OSError, ValueError) as error:
        ask = "Save it as UTF-8." if isinstance(error, UnicodeError) else "Check the path."
        raise InputError(f"The run file {path} cannot be read: {error}. {ask}") from None


def named(kind: type[Request], raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return settings by the names of options, whether they stood by themselves or in tables.

    Raises `InputError` that lists all that are unknown, or given twice; `source` names the file.
    """
    found, problems = sifted(kind, raw, source)
    if problems:
        raise InputError(" ".join(problems))
    return found


def sifted(
    kind: type[Request], raw: Mapping[str, Any], source: str, *, lists: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return settings as `named` does, and what is wrong with the others.

    With `lists` every value is a list of values, and a nested table may be one, too.
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
        hints = {n: nearest(n.rpartition(".")[2], near).partition("Known:")[0] for n in names}
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


def request_of(kind: type[_R], settings: Mapping[str, Any], source: str = "The record") -> _R:
    """Return the request of settings by name, as `flat` returns them or a run file has them.

    Raises `InputError` on what is unknown or cannot be used.
    """
    return built(kind, named(kind, settings, source))


def built(kind: type[_R], values: Mapping[str, Any]) -> _R:
    """Return the request of values by the names of options.

    Raises `InputError` that lists all values that cannot be used, and options that are missing.
    """
    made, problems = attempted(kind, values)
    if made is None:
        raise InputError(" ".join(problems))
    return made


def attempted(kind: type[_R], values: Mapping[str, Any]) -> tuple[_R | None, list[str]]:
    """Return the request that `built` returns, or None and all that is wrong."""
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
    return None if problems else kind(**made), problems


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
