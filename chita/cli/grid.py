"""The runs of a sweep: one run file, some of its options lists."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from chita.cli.requests import PruneRequest
from chita.errors import InputError
from chita.naming import nearest
from chita.reports.accuracy import COLUMNS, row_of
from chita.settings import attempted, read_toml, request_of, settings_of, sifted

_NEVER = ("out", "force", "resume")


@final
@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run of a sweep: the options that are `varied`, name to value, and its whole `request`."""

    varied: dict[str, Any]
    request: PruneRequest

    @property
    def key(self) -> str:
        """Text that is the same for the same settings."""
        return json.dumps(settings_of(self.request), sort_keys=True)


def key_of(settings: dict[str, Any]) -> str:
    """Return the key of the settings in a line of results, with defaults for what is newer.

    What can no longer be read is no run of today. Lines from before `evaluate` are of all samples.
    """
    try:
        known = {"evaluate": "all", **settings}
        return SweepRun(varied={}, request=request_of(PruneRequest, known)).key
    except InputError:
        return json.dumps(settings, sort_keys=True)


def read_grid(path: Path) -> list[SweepRun]:
    """Return all runs of a file: options of `chita prune`, and lists of them under `[sweep]`.

    Several tables `[[sweep]]` are several grids, one after another. A row of one
    with a `name` has it in place of its options of one value.

    Raises `InputError` when the file is no TOML; else with all options that cannot be used.
    """
    options = read_toml(path)
    found = options.pop("sweep", None)
    grids = found if isinstance(found, list) else [found]
    if not grids or not all(isinstance(grid, dict) and grid for grid in grids):
        raise InputError(
            f"{path} has no table [sweep]. Give there lists of what to vary, such as\n"
            "  solver = ['magnitude', 'chita']"
        )
    common, problems = sifted(PruneRequest, options, str(path))
    runs: dict[str, SweepRun] = {}
    for grid in grids:
        for run in _runs(path, common, grid, problems):
            runs.setdefault(run.key, run)
    if problems:
        raise InputError(" ".join(dict.fromkeys(problems)))
    _check_distinct(runs.values())
    return list(runs.values())


def chosen(runs: Sequence[SweepRun], only: Iterable[str]) -> list[SweepRun]:
    """Return the runs in which what is varied has one of the values asked for, such as seed=1.

    Raises `InputError` on an option that is not varied, and on a value that no run has.
    """
    asked: dict[str, list[str]] = {}
    for text in only:
        name, _, value = (part.strip() for part in text.partition("="))
        asked.setdefault(name, []).append(value)
    for name, values in asked.items():
        known = dict.fromkeys(_text(run, name) for run in runs if name in run.varied)
        if not known:
            names = dict.fromkeys(name for run in runs for name in run.varied)
            raise InputError(f"`only` names {name!r}, which is not varied. {nearest(name, names)}")
        for value in values:
            if value not in known:
                raise InputError(
                    f"`only` is {name}={value}, and no run has that. {nearest(value, known)}"
                )
    return [run for run in runs if all(_text(run, n) in values for n, values in asked.items())]


def _text(run: SweepRun, name: str) -> str:
    """Return a value as it is written after the equals sign, nothing where it is not varied."""
    value = run.varied.get(name, "")
    return value if isinstance(value, str) else json.dumps(value)


def _check_distinct(runs: Iterable[SweepRun]) -> None:
    """Raise `InputError` where a table would take runs of different options for one row."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        settings = {
            n: v for n, v in settings_of(run.request).items() if n not in (*COLUMNS, "seed")
        }
        other = rows.setdefault(row_of(run.varied), settings)
        differ = [name for name, value in settings.items() if value != other[name]]
        if differ:
            raise InputError(
                f"Two grids named {run.varied.get('name')!r} differ in {', '.join(differ)}, which "
                "a table would not show. Give them different names."
            )


def _runs(
    path: Path, common: Mapping[str, Any], grid: Mapping[str, Any], problems: list[str]
) -> Iterator[SweepRun]:
    """Yield the runs of one grid; add what is wrong with it to `problems`."""
    label = grid.get("name")
    if not isinstance(label, str | None):
        problems.append(f"[sweep] has name = {label!r}; give a text.")
    given = {name: values for name, values in grid.items() if name != "name"}
    varied, wrong = sifted(PruneRequest, given, "[sweep]", lists=True)
    varied = {name: values for name, values in varied.items() if values != {}}  # [sweep.training]
    scalar = [name for name, values in varied.items() if not isinstance(values, list) or not values]
    wrong += [f"[sweep] has {n} = {varied.pop(n)!r}; give a list of values." for n in scalar]
    twice = [name for name in varied if common.get(name, {}) != {}]
    wrong += [f"{path} gives {n} both under [sweep] and outside of it. Keep one." for n in twice]
    unfit = [name for name in _NEVER if name in common or name in varied]
    wrong += [f"{path} sets {name}, which is not for sweeps. Take it out." for name in unfit]
    problems += wrong
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        request, unusable = attempted(PruneRequest, {**common, **chosen}, str(path))
        problems += unusable
        if request is None:
            continue
        if label is not None:
            several = {name: v for name, v in chosen.items() if len(varied[name]) > 1}
            chosen = {"solver": request.solver.solver, "name": label, **several}
        yield SweepRun(varied=chosen, request=request)
