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
_SUBJECT = (
    *("model", "weights", "data", "loss"),
    *("image_size", "image_mean", "image_std", "length"),
)
_NUMBERS = ("sparsity", "nnz", "prunable")
_MAYBE = (
    *("dense_metric", "pruned_metric", "peak_rss_mb", "flops", "dense_flops", "objective"),
    *("lower_bound", "gap", "neighbours", "ridge"),
)


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
        """What it is measured by, and what was pruned: runs of one subject can be compared."""
        given = self.line["settings"]
        known = [given.get(name) for name in _SUBJECT]
        known[0] = known[0] or (self.record and self.record.model)
        told = ("" if value is None else str(value) for value in known)
        return (self.metric or "", *told, str(self.line["prunable"]))

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

    What `chita sensitivity` wrote may be among them. A line or a record that cannot be read, or
    tells of a run that failed, is skipped and named; so is a file of which no line is JSON, and a
    run that is there twice.

    Raises `InputError` where a path cannot be read at all, or no run is left.
    """
    runs: dict[str, Reported] = {}
    tables: list[tuple[str, SensitivityRecord]] = []
    skipped: list[str] = []
    for path in paths:
        single = path.is_dir() or path.suffix == ".json"
        for found in [_recorded(path)] if single else _lines(path):
            if isinstance(found, str):
                skipped.append(found)
            elif isinstance(found, tuple):
                tables.append(found)
            else:
                own = json.dumps({k: v for k, v in found.line.items() if k != "run"})
                first = runs.setdefault(own, found)
                if first is not found:
                    skipped.append(f"{found.source}: the same run as {first.source}.")
    if not runs and not tables:
        told = f" {skipped[0]}" if skipped else ""
        raise InputError(
            f"There is no run to report.{told} Give run folders (--out of chita prune), or results "
            "of chita sweep (--out)."
        )
    return Reading(runs=_named(list(runs.values())), tables=tuple(tables), skipped=tuple(skipped))


def _recorded(path: Path) -> Reported | tuple[str, SensitivityRecord] | str:
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
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        return f"{file}: no record of a run; {place}: {first['msg']}."
    except (ValueError, RecursionError):
        return f"{file}: no JSON."
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
    line = {"run": run, "settings": record.settings, **summary(record)}
    return Reported(name=name, source=source, line=line, record=record)


def _lines(path: Path) -> Iterator[Reported | str]:
    """The runs of a sweep, and what is wrong with the lines that tell of none."""
    texts = _read(path).splitlines()
    lines = [_line(text) for text in texts]
    if len(lines) > 1 and all(line is None for line in lines):
        yield f"{path}: no results of a sweep; none of its {len(lines)} lines is JSON."
        return
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number}"
        wrong = "no JSON." if line is None else _wrong(line[0])
        if line is None or wrong is not None:
            yield f"{place}: {wrong}"
            continue
        run = line[0]["run"]
        told = [f"{name} {run[name]}" for name in (*COLUMNS, "seed") if run.get(name) is not None]
        yield Reported(name=", ".join([row_of(run), *told]), source=place, line=line[0])


def _line(text: bytes) -> tuple[Any] | None:
    try:
        return (_plain(text),)
    except (ValueError, RecursionError):
        return None


def _plain(text: bytes) -> Any:
    """What JSON says; a number that is not finite is one that nobody knows."""
    return json.loads(text, parse_constant=lambda _: None)


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
    missing = [name for name in (*objects, "solver", *_NUMBERS) if name not in line]
    if missing:
        return f"no run of a sweep; it lacks {', '.join(missing)}."
    if not all(isinstance(line[name], dict) for name in objects):
        return "no run of a sweep; run, settings and seconds are objects."
    if not isinstance(line["run"].get("options", {}), dict):
        return "the options in run are no object."
    for name in (*_NUMBERS, *_MAYBE):
        value = line.get(name)
        if not (_finite(value) or (value is None and name in _MAYBE)):
            return f"{name} is {value!r}, no number."
    if not all(map(_finite, line["seconds"].values())):
        return "seconds are no numbers."
    return _wrong_measure(line) or _wrong_budget(line)


def _wrong_measure(line: Mapping[str, Any]) -> str | None:
    metric, epochs = line.get("metric"), line.get("epochs")
    if not (metric is None or isinstance(metric, str)):
        return f"metric is {metric!r}, no name."
    if line.get("pruned_metric") is not None and not metric:
        return "it lacks the name of its metric."
    if epochs is not None and not _trained(epochs):
        return "epochs are no list of what every epoch measured."
    return None


def _wrong_budget(line: Mapping[str, Any]) -> str | None:
    for given in (line["settings"], line["run"]):
        for name in COLUMNS:
            value = given.get(name)
            text = name == "pattern" and isinstance(value, str)
            good = re.fullmatch(r"\d+:\d+", value) is not None if text else _finite(value)
            if value is not None and not good:
                return f"{name} is {value!r}, no budget."
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
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _named(runs: Sequence[Reported]) -> tuple[Reported, ...]:
    """The runs with names of their own: folders that share one get more of their paths."""
    names = [run.name for run in runs]
    taken: set[str] = set()
    found = []
    for run in runs:
        name, parts = run.name, Path(run.source).parent.parts
        depth = 2
        while name in taken or (depth == 2 and run.record is not None and names.count(name) > 1):
            name = "/".join(parts[-depth:]) if depth <= len(parts) else f"{run.name} ({depth})"
            depth += 1
        taken.add(name)
        found.append(Reported(name=name, source=run.source, line=run.line, record=run.record))
    return tuple(found)
