"""Runs as reports read them: run folders, records, and the lines of sweeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chita.errors import InputError
from chita.records import RunRecord
from chita.reports.accuracy import COLUMNS, part_of, row_of
from chita.reports.flat_record import flat_record
from chita.sensitivity_record import SensitivityRecord

RECORD = "record.json"
_SUBJECT = (
    *("model", "weights", "data", "loss"),
    *("image_size", "image_mean", "image_std", "length"),
)
_NO_JSON = "no JSON."
_GIVE = "Give folders that chita prune wrote, or results of chita sweep."
_OPEN = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
_Pattern = Annotated[str, Field(pattern=r"^\d+:\d+$")]


@final
@dataclass(frozen=True, kw_only=True)
class Reported:
    """One run.

    Fields: `name`; `source`, the file it was read from, with the line in it; `line`, what a sweep
    writes of a run (`chita prune --json`, with `run` and `settings`); `record`, all that is known,
    None where a sweep's line is all.
    """

    name: str
    source: str
    line: Mapping[str, Any]
    record: RunRecord | None = None

    @property
    def subject(self) -> tuple[str, ...]:
        """The measure, and what was pruned: runs of one subject can be compared."""
        given = self.line["settings"]
        known = [given.get(name) for name in _SUBJECT]
        known[0] = known[0] or (self.record and self.record.model)
        words = ("" if value is None else str(value) for value in known)
        return (self.metric or "", *words, part_of(self.line), str(self.line["prunable"]))

    @property
    def metric(self) -> str | None:
        """The name of what was measured."""
        found: str | None = self.line.get("metric")
        return found


class _Budgeted(BaseModel):
    """Settings of a run, or those of them that were varied."""

    model_config = _OPEN

    flops: float | None = None
    pattern: _Pattern | float | None = None
    sparsity: float | None = None
    nnz: float | None = None
    megabytes: float | None = None
    max_loss: float | None = None


class _Varied(_Budgeted):
    options: dict[str, Any] = {}


class _Epoch(BaseModel):
    model_config = _OPEN

    epoch: float
    metric: float | None
    pruned_metric: float | None


class _Line(BaseModel):
    """What a report needs of the line of a sweep."""

    model_config = _OPEN

    run: _Varied
    settings: _Budgeted
    seconds: dict[str, float]
    solver: Any
    sparsity: float
    nnz: float
    prunable: float
    metric: str | None = None
    dense_metric: float | None = None
    pruned_metric: float | None = None
    evaluated: int | None = None
    evaluated_of: int | None = None
    peak_rss_mb: float | None = None
    flops: float | None = None
    dense_flops: float | None = None
    objective: float | None = None
    lower_bound: float | None = None
    gap: float | None = None
    neighbours: float | None = None
    ridge: float | None = None
    epochs: list[_Epoch] | None = None
    versions: dict[str, Any] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """The `runs` and the `tables` of sensitivities, by name, that could be read.

    `skipped` names the others, with the reasons why they are left out.
    """

    runs: tuple[Reported, ...] = ()
    tables: tuple[tuple[str, SensitivityRecord], ...] = ()
    skipped: tuple[str, ...] = ()


_Found = Reported | tuple[str, SensitivityRecord] | str
"""A run, a table of sensitivities with its name, or why there is neither."""


def read_runs(paths: Sequence[Path]) -> Reading:
    """Return the runs of some paths: run folders, `record.json` files, results of sweeps (.jsonl).

    What `chita sensitivity` wrote may be among them. A line or a record that cannot be read, or
    is of a run that failed, is skipped and named; so is a file of which no line is JSON.

    Raises `InputError` where a path cannot be read at all, or no run is left.
    """
    found: list[_Found] = []
    for path in paths:
        single = path.is_dir() or path.suffix == ".json"
        found += [_recorded(path)] if single else _lines(path)
    runs = [own for own in found if isinstance(own, Reported)]
    tables = [own for own in found if isinstance(own, tuple)]
    skipped = [own for own in found if isinstance(own, str)]
    if not runs and not tables:
        why = f" {skipped[0]}" if skipped else ""
        raise InputError(f"There is no run to report.{why} {_GIVE}")
    return Reading(runs=_named(runs), tables=tuple(tables), skipped=tuple(skipped))


def _recorded(path: Path) -> _Found:
    """The run, or the sensitivities, of a folder or of a record; or what is wrong with it."""
    file = path / RECORD if path.is_dir() else path
    name = (path.name if path.is_dir() else path.parent.name or path.stem) or str(path)
    content = _read(file)
    try:
        plain = _plain(content)
        if isinstance(plain, dict) and plain.get("command") == "sensitivity":
            return name, SensitivityRecord.model_validate(plain)
        record = RunRecord.model_validate(plain)
    except ValidationError as error:
        return f"{file}: no record of a run; {_first(error)}"
    except (ValueError, RecursionError):
        return f"{file}: {_NO_JSON}"
    if not record.stages:
        return f"{file}: no record of a run; it has no stage."
    run = reported(record, name, str(file))
    wrong = _wrong(run.line)
    return run if wrong is None else f"{file}: {wrong}"


def reported(record: RunRecord, name: str = "run", source: str = "") -> Reported:
    """Return the run of a record."""
    solver = record.solver if record.command == "prune" else record.command
    run: dict[str, Any] = {"solver": solver, "seed": record.seed}
    for setting in (*COLUMNS, "blocks", "per_layer", "layerwise"):
        if record.settings.get(setting) not in (None, False):
            run[setting] = record.settings[setting]
    if record.training is not None:
        run["training"] = f"{len(record.training.epochs)} epochs"
    elif len(record.stages) > 1:
        run["stages"] = len(record.stages)
    line = {"run": run, "settings": record.settings, **flat_record(record)}
    return Reported(name=name, source=source, line=line, record=record)


def _lines(path: Path) -> list[Reported | str]:
    """The runs of a sweep, and what is wrong with the lines that are no run."""
    texts = enumerate(_read(path).splitlines(), start=1)
    found = [_line(text, f"{path}, line {number}") for number, text in texts]
    if len(found) > 1 and all(isinstance(own, str) and own.endswith(_NO_JSON) for own in found):
        return [f"{path}: no results of a sweep; none of its {len(found)} lines is JSON."]
    return found


def _line(text: bytes, source: str) -> Reported | str:
    """The run of a line, or what is wrong with it."""
    try:
        line = _plain(text)
    except (ValueError, RecursionError):
        return f"{source}: {_NO_JSON}"
    wrong = _wrong(line)
    if wrong is not None:
        return f"{source}: {wrong}"
    run = line["run"]
    more = [f"{name} {run[name]}" for name in (*COLUMNS, "seed") if run.get(name) is not None]
    return Reported(name=", ".join([row_of(run), *more]), source=source, line=line)


def _plain(text: bytes) -> Any:
    """Return what JSON says; None stands for a number that is not finite."""
    return json.loads(text, parse_constant=lambda _: None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        absent = path.name == RECORD and path.parent.is_dir() and not path.exists()
        what = f"{path.parent} holds no {RECORD}" if absent else f"{path} holds no run"
        raise InputError(f"{what}: {error.strerror or error}. {_GIVE}") from None


def _wrong(line: Any) -> str | None:
    """Return why a line is no finished run, None where it is one."""
    if isinstance(line, dict) and isinstance(line.get("error"), str):
        return f"the run failed: {line['error']}"
    try:
        found = _Line.model_validate(line)
    except ValidationError as error:
        return f"no run of a sweep; {_first(error)}"
    if found.pruned_metric is not None and not found.metric:
        return "it lacks the name of its metric."
    return None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}."


def _named(runs: Sequence[Reported]) -> tuple[Reported, ...]:
    """Return the runs with names of their own: those that share one get their path, too."""
    count = Counter(run.name for run in runs)
    named = []
    for run in runs:
        path = str(Path(run.source).parent) if run.record else f"{run.name} ({run.source})"
        named.append(run if count[run.name] == 1 else replace(run, name=path))
    return tuple(named)
