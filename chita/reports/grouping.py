"""Names by the settings in which runs differ, so that means are over seeds only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chita.reports.accuracy import COLUMNS, budgets_of, column_of, row_of
from chita.reports.runs import Reported

_IDLE = {*COLUMNS, "seed", "out", "force", "resume", "max_memory", "data_dir"}
"""Settings that are not part of a name: budgets have columns, seeds are averaged."""

_COUNTED = {"sparsity", "nnz", "megabytes"}  # budgets that the share of weights removed shows


def named_by_settings(runs: Sequence[Reported]) -> tuple[list[Reported], list[str]]:
    """Return runs that can be compared, with names for the rows of a table, and what is left out.

    Runs of one row whose settings differ get those settings in their names; where budgets are of
    several kinds, the kind too. Of runs with the same settings and seed the last one counts.
    """
    runs = [_budgeted(run, runs) for run in runs]
    classes: dict[str, list[Reported]] = {}
    for run in runs:
        classes.setdefault(row_of(run.line["run"]), []).append(run)
    found: dict[tuple[Any, ...], Reported] = {}
    left: list[str] = []
    for budgeted in runs:
        run = _by_settings(budgeted, classes[row_of(budgeted.line["run"])])
        key = (row_of(run.line["run"]), column_of(run.line), json.dumps(run.line.get("seed")))
        if key in found:
            left.append(f"{found[key].source}: the same settings and seed as {run.source}.")
        found.pop(key, None)
        found[key] = run
    return list(found.values()), left


def _renamed(run: Reported, more: Mapping[str, Any]) -> Reported:
    return replace(run, line={**run.line, "run": {**run.line["run"], **more}})


def _budgeted(run: Reported, runs: Sequence[Reported]) -> Reported:
    """A run with its budgets in its name, where others have budgets of another kind."""
    given = budgets_of(run.line)
    kinds = {tuple(budgets_of(other.line)) for other in runs}
    if len(given) == 1 and (len(kinds) == 1 or _COUNTED.issuperset(given)):
        return run
    words = [f"{name} {value}" for name, value in given.items()]
    return _renamed(run, {"budget": " and ".join(words)}) if words else run


def _by_settings(run: Reported, others: Sequence[Reported]) -> Reported:
    """A run of one row with the settings in which that row's runs differ."""
    names = sorted({name for other in others for name in other.line["settings"]} - _IDLE)
    values = {n: [json.dumps(_setting(o, n)) for o in others] for n in names}
    differ = [n for n in names if len(set(values[n])) > 1 and n not in run.line["run"]]
    return _renamed(run, {name: _value(name, _setting(run, name)) for name in differ})


def _setting(run: Reported, name: str) -> Any:
    """A setting of a run; of a solver's options, those that decide what it finds."""
    value = run.line["settings"].get(name)
    if name == "options" and isinstance(value, dict):
        return {own: given for own, given in value.items() if own != "bound"}
    return value


def _value(name: str, value: Any) -> Any:
    """A setting in a name: short, and a default by that word."""
    if name == "training":
        return "none" if not value else f"{value.get('epochs')} epochs"
    if name == "options":  # each of which stands in the name
        return value if isinstance(value, dict) else {}
    return "default" if value is None else str(value)
