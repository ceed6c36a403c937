"""The runs of a sweep: one file of settings, some of them lists."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from chita.cli.settings import PruneSettings, check_known, merge_settings, read_toml
from chita.errors import InputError
from chita.naming import nearest
from chita.reports.accuracy import COLUMNS, row_of

_NEVER = ("out", "force", "resume")


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a sweep: what is `varied`, name to value, and all its `settings`."""

    varied: dict[str, Any]
    settings: PruneSettings

    @property
    def key(self) -> str:
        """A text that is the same for the same settings."""
        return json.dumps(self.settings.model_dump(mode="json"), sort_keys=True)


def key_of(settings: dict[str, Any]) -> str:
    """Return the key of the settings in a line of results, with defaults for what is newer.

    What can no longer be read is no run of today.
    """
    try:
        return Run(varied={}, settings=PruneSettings.model_validate(settings)).key
    except ValidationError:
        return json.dumps(settings, sort_keys=True)


def read_grid(path: Path) -> list[Run]:
    """Return all runs of a file: the settings of `chita prune`, and lists of them under `[sweep]`.

    Several tables `[[sweep]]` are several grids, one after another. One with a `name` is told by it
    in place of its settings of one value.

    Raises `InputError` when the file is no TOML, or a setting of any run cannot be used.
    """
    settings = read_toml(path)
    found = settings.pop("sweep", None)
    grids = found if isinstance(found, list) else [found]
    if not grids or not all(isinstance(grid, dict) and grid for grid in grids):
        raise InputError(
            f"{path} has no table [sweep]. Give there lists of what to vary, such as\n"
            "  method = ['magnitude', 'chita']"
        )
    check_known(path, settings, PruneSettings)
    runs: dict[str, Run] = {}
    for grid in grids:
        for run in _runs(path, settings, {n.replace("-", "_"): v for n, v in grid.items()}):
            runs.setdefault(run.key, run)
    _check_told_apart(runs.values())
    return list(runs.values())


def _check_told_apart(runs: Iterable[Run]) -> None:
    """Raise `InputError` where a table would take runs of different settings for one row."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        settings = run.settings.model_dump(mode="json", exclude={*COLUMNS, "seed"})
        other = rows.setdefault(row_of(run.varied), settings)
        differ = [name for name, value in settings.items() if value != other[name]]
        if differ:
            raise InputError(
                f"Two grids named {run.varied.get('name')!r} differ in {', '.join(differ)}, which "
                "a table would not show. Give them different names."
            )


def _runs(path: Path, settings: dict[str, Any], varied: dict[str, Any]) -> Iterator[Run]:
    """The runs of one grid."""
    label = varied.pop("name", None)
    if label is not None and not isinstance(label, str):
        raise InputError(f"[sweep] has name = {label!r}; give a text.")
    for name, values in varied.items():
        if name not in PruneSettings.model_fields:
            raise InputError(f"[sweep] has {name!r}. {nearest(name, PruneSettings.model_fields)}")
        if not isinstance(values, list) or not values:
            raise InputError(f"[sweep] has {name} = {values!r}; give a list of values.")
    twice = sorted(settings.keys() & varied.keys())
    if twice:
        raise InputError(f"{path} gives {', '.join(twice)} both alone and under [sweep]. Keep one.")
    named = [name for name in _NEVER if name in settings or name in varied]
    if named:
        raise InputError(f"{path} sets {', '.join(named)}, which is not for sweeps. Take it out.")
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        merged = merge_settings(PruneSettings, None, {**settings, **chosen})
        if label is not None:
            told = {name: v for name, v in chosen.items() if len(varied[name]) > 1}
            chosen = {"method": merged.method, "name": label, **told}
        yield Run(varied=chosen, settings=merged)
