"""Runs as reports read them: run folders, records, and the lines of sweeps."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from chita.errors import InputError
from chita.records import RunRecord
from chita.reports.accuracy import COLUMNS, row_of
from chita.reports.summary import summary
from chita.sensitivity_record import SensitivityRecord

RECORD = "record.json"
_SENSITIVITY = re.compile(rb'"command"\s*:\s*"sensitivity"')
_NUMBERS = ("sparsity", "nnz", "prunable")
_MAYBE = (
    "dense_metric", "pruned_metric", "peak_rss_mb", "flops", "dense_flops", "objective",
    "lower_bound", "neighbours", "ridge",
)  # fmt: skip


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
        """What was pruned and by what it is measured: runs of one subject can be compared."""
        given = self.line["settings"]
        known = [given.get(name) for name in ("model", "weights", "data", "loss")]
        known[0] = known[0] or (self.record and self.record.model)
        return (*("" if value is None else str(value) for value in known), self.metric or "")

    @property
    def metric(self) -> str | None:
        """The name of what was measured."""
        found = self.line.get("metric")
        return None if found is None else str(found)


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """The `runs` and the `tables` of sensitivities, by name, that could be read.

    Of the others `skipped` tells where they are and why they are left out.
    """

    runs: tuple[Reported, ...] = ()
    tables: tuple[tuple[str, SensitivityRecord], ...] = ()
    skipped: tuple[str, ...] = ()


def read_runs(paths: Sequence[Path]) -> Reading:
    """Return the runs of some paths: run folders, `record.json` files, results of sweeps (.jsonl).

    What `chita sensitivity` wrote may be among them.

    A line or a record that cannot be read, or tells of a run that failed, is skipped and named.

    Raises `InputError` where a path cannot be read at all, or no run is left.
    """
    runs: list[Reported] = []
    tables: list[tuple[str, SensitivityRecord]] = []
    skipped: list[str] = []
    for path in dict.fromkeys(paths):
        single = path.is_dir() or path.suffix == ".json"
        for found in [_recorded(path)] if single else _lines(path):
            if isinstance(found, str):
                skipped.append(found)
            elif isinstance(found, tuple):
                tables.append(found)
            else:
                runs.append(found)
    if not runs and not tables:
        told = f" {skipped[0]}" if skipped else ""
        raise InputError(
            f"There is no run to report.{told} Give run folders (--out of chita prune), or results "
            "of chita sweep (--out)."
        )
    return Reading(runs=tuple(runs), tables=tuple(tables), skipped=tuple(skipped))


def _recorded(path: Path) -> Reported | tuple[str, SensitivityRecord] | str:
    """The run, or the sensitivities, of a folder or of a record; or what is wrong with it."""
    file = path / RECORD if path.is_dir() else path
    content = _read(file)
    name = (path.name if path.is_dir() else path.parent.name or path.stem) or str(path)
    try:
        if _SENSITIVITY.search(content):
            return name, SensitivityRecord.model_validate_json(content)
        record = RunRecord.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        return f"{file}: no record of a run; {place}: {first['msg']}."
    if not record.stages:
        return f"{file}: no record of a run; it has no stage."
    return reported(record, name, str(file))


def reported(record: RunRecord, name: str = "run", source: str = "") -> Reported:
    """Return the run of a record."""
    budget = {n: record.settings[n] for n in COLUMNS if record.settings.get(n) is not None}
    stages = {"stages": len(record.stages)} if len(record.stages) > 1 else {}
    run = {"method": record.method, **budget, **stages, "seed": record.seed}
    line = {"run": run, "settings": record.settings, **summary(record)}
    return Reported(name=name, source=source, line=line, record=record)


def _lines(path: Path) -> Iterator[Reported | str]:
    """The runs of a sweep, and what is wrong with the lines that tell of none."""
    for number, text in enumerate(_read(path).splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            yield f"{place}: no JSON."
            continue
        wrong = _wrong(line)
        if wrong is not None:
            yield f"{place}: {wrong}"
            continue
        told = [n for n in (*COLUMNS, "seed") if line["run"].get(n) is not None]
        words = [row_of(line["run"]), *(f"{n} {line['run'][n]}" for n in told)]
        yield Reported(name=", ".join(words), source=place, line=line)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        absent = path.name == RECORD and path.parent.is_dir() and not path.exists()
        what = f"{path.parent} holds no {RECORD}" if absent else f"{path} holds no run"
        raise InputError(
            f"{what}: {error.strerror or error}. Give a folder that chita prune --out wrote, or "
            "results of chita sweep."
        ) from None


def _wrong(line: Any) -> str | None:
    """Why a line tells of no finished run, None where it does."""
    if not isinstance(line, dict):
        return "not a JSON object."
    if isinstance(line.get("error"), str):
        return f"the run failed: {line['error']}"
    objects = ("run", "settings", "seconds")
    missing = [name for name in (*objects, "method", *_NUMBERS) if name not in line]
    if missing:
        return f"no run of a sweep; it lacks {', '.join(missing)}."
    if not all(isinstance(line[name], dict) for name in objects):
        return "no run of a sweep; run, settings and seconds are objects."
    for name in (*_NUMBERS, *_MAYBE):
        value = line.get(name)
        if not (_finite(value) or (value is None and name in _MAYBE)):
            return f"{name} is {value!r}, no number."
    if not all(map(_finite, line["seconds"].values())):
        return "seconds are no numbers."
    epochs = line.get("epochs")
    if epochs is not None and not _trained(epochs):
        return "epochs are no list of what every epoch measured."
    return None


def _trained(epochs: Any) -> bool:
    names = ("epoch", "metric", "pruned_metric")
    return isinstance(epochs, list) and all(
        isinstance(epoch, dict)
        and _finite(epoch.get("epoch"))
        and all(name in epoch and (epoch[name] is None or _finite(epoch[name])) for name in names)
        for epoch in epochs
    )


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
