"""The settings of commands, from a run file and the command line."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError

from chita.constraints.per_layer import DISTRIBUTIONS
from chita.errors import InputError
from chita.naming import nearest
from chita.pruning.budget import Asked, PerLayerLike
from chita.pruning.pose import Pose
from chita.pruning.schedule import Stages
from chita.pruning.sensitivity import SPARSITIES
from chita.training.recipe import Training

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


def _numbers(value: object) -> object:
    """A text of numbers with commas between them, as the command line gives it, as a list."""
    return [float(part) for part in value.split(",")] if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Numbers = Annotated[tuple[Number, ...], BeforeValidator(_numbers)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class NetworkSettings(BaseModel):
    """A network and its data, under the names of the options with underscores for dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "digits-mlp"
    weights: Path | None = None
    allow_pickle: Flag = False
    data: str | None = None
    data_dir: Path | None = None
    image_size: Whole | None = None
    image_mean: Numbers | None = None
    image_std: Numbers | None = None
    length: Whole | None = None
    loss: str | None = None
    device: str = "cpu"


class OutputSettings(NetworkSettings):
    """A run folder to write."""

    out: Path | None = None
    force: Flag = False


class ApplySettings(OutputSettings):
    """Those of `chita apply`: a mask."""

    mask: Path | None = None


class RowSettings(OutputSettings):
    """How rows are collected and the problem is posed."""

    rows: Whole | None = None
    row_size: Whole = 1
    rows_dtype: str | None = None
    held_out: Whole | None = None
    labels: Literal["data", "model"] = "data"
    fisher: str = "auto"
    ridge: Number | str = "auto"
    first_order: Number | str = "auto"
    step: Number | str = "auto"
    fisher_blocks: str = "auto"
    seed: Whole = 0
    row_indices: Path | None = None
    bn_recalibrate: Flag = True

    def row_arguments(self) -> dict[str, Any]:
        """Return these settings as `chita.prune` and `chita.refit` take them.

        Raises `InputError` when the file of row indices cannot be read.
        """
        own = RowSettings.model_fields.keys() - OutputSettings.model_fields.keys()
        indices = read_indices(self.row_indices) if self.row_indices else None
        return {**{name: getattr(self, name) for name in own}, "row_indices": indices}


class RefitSettings(RowSettings):
    """Those of `chita refit`: a mask, and rows."""

    mask: Path | None = None


class SensitivitySettings(RowSettings):
    """Those of `chita sensitivity`: shares to remove, from which tensors, how, and a picture."""

    sparsities: Numbers = SPARSITIES
    targets: Names | None = None
    ignore: Names = ()
    method: str = "chita"
    options: dict[str, Flag | Whole | Number | str] = {}
    plot: Path | None = None


class PruneSettings(RowSettings):
    """Those of `chita prune` and `chita plan`.

    `options` are the fields of the solver (`chita methods` lists them), `training` those of
    `chita.Training`, None for pruning alone.
    """

    sparsity: Number | None = None
    nnz: Whole | None = None
    megabytes: Number | None = None
    min_keep: Whole = 1
    pattern: str | None = None
    blocks: str | None = None
    per_layer: str | dict[str, Number] | None = None
    flops: Number | None = None
    targets: Names | None = None
    ignore: Names = ()
    method: str = "chita"
    stages: Whole | None = None
    schedule: str | tuple[Number, ...] = "exp"
    regrow: Flag = True
    earlier_rows: Whole = 0
    training: Training | None = None
    layerwise: Flag | None = None
    max_memory: Number | None = None
    resume: Flag = False
    bound: Flag = False
    options: dict[str, Flag | Whole | Number | str] = {}


_BUDGETS = ("sparsity", "nnz", "megabytes", "pattern", "blocks", "per_layer", "flops")
"""Settings that say together what is kept: the command line replaces all of them."""

_SHARED = (*DISTRIBUTIONS, "rows", "search", "owl")

_S = TypeVar("_S", bound=NetworkSettings)


def merge_settings(
    kind: type[_S],
    config: Path | None,
    given: Mapping[str, Any],
    options: Sequence[str] = (),
    training: Sequence[str] = (),
) -> _S:
    """Return the run file's settings, overridden by what the command line gives.

    Args:
        kind: the settings of the command.
        config: a TOML file, or None.
        given: setting to value; None where the command line is silent; other names are left out.
        options: "name=value" texts for the solver.
        training: such texts for the table `training`.

    Raises:
        InputError: the file is no TOML, or a setting is unknown or of the wrong type; all at once.
    """
    settings = read_toml(config) if config else {}
    known = kind.model_fields
    given = {name: v for name, v in given.items() if v is not None and name in known}
    if set(_BUDGETS) & given.keys():
        settings = {k: v for k, v in settings.items() if k not in _BUDGETS}
    if given.get("method", settings.get("method")) != settings.get("method"):
        settings = {k: v for k, v in settings.items() if k != "options"}  # of another method
    for name, texts in (("options", options), ("training", training)):
        chosen = dict(text.partition("=")[::2] for text in texts)
        of_file = settings.get(name, {})
        if chosen and isinstance(of_file, dict):
            given[name] = {**of_file, **chosen}
    check_known(config, settings, kind)
    try:
        return kind(**{**settings, **given})
    except ValidationError as error:
        faults = "; ".join(map(_fault, error.errors()))
        raise InputError(f"Settings that cannot be used: {faults}. Correct them.") from None


def _fault(error: Any) -> str:
    """One fault as people read it."""
    if error["type"] == "unexpected_keyword_argument":
        name = error["loc"][-1]
        return f"[training] has {name!r}: {nearest(name, [f.name for f in fields(Training)])}"
    told = error["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{_place(error['loc'])} is {error['input']!r}: {told}"


def check_known(
    config: Path | None, settings: Mapping[str, Any], kind: type[NetworkSettings]
) -> None:
    """Raise `InputError` that lists all settings of a run file which a command does not have."""
    known = kind.model_fields
    unknown = [name for name in settings if name not in known]
    if unknown:
        hints = " ".join(f"{n!r}: {nearest(n, known)}" for n in unknown)
        raise InputError(f"{config} has unknown settings. {hints}")


def stages_of(settings: PruneSettings) -> Stages:
    """Return the stages. Raises `InputError` where they cannot be."""
    return Stages(
        count=settings.stages,
        schedule=schedule_of(settings),
        regrow=settings.regrow,
        earlier_rows=settings.earlier_rows,
    )


def schedule_of(settings: PruneSettings) -> str | tuple[float, ...]:
    """Return the schedule: a name, or sparsities, which the command line gives as text.

    Raises `InputError` when some of them are numbers and others are not.
    """
    schedule = settings.schedule
    if not isinstance(schedule, str) or not any(c.isdigit() for c in schedule):
        return schedule
    try:
        return tuple(map(float, schedule.split(",")))
    except ValueError:
        raise InputError(
            f"--schedule is {schedule!r}; give a name, or sparsities such as 0.5,0.8,0.9."
        ) from None


def pose_of(settings: RowSettings) -> Pose:
    """Return how the problem is posed. Raises `InputError` as `Pose` does."""
    return Pose(
        ridge=settings.ridge,
        first_order=settings.first_order,
        step=settings.step,
        fisher_blocks=settings.fisher_blocks,
    )


def asked_of(settings: PruneSettings) -> Asked:
    """Return the budget in words; levels by tensor are read from their file.

    Raises `InputError` when it cannot be read.
    """
    levels: PerLayerLike | None = settings.per_layer
    if isinstance(levels, str) and levels not in _SHARED:
        levels = read_levels(Path(levels))
    words = {f.name: getattr(settings, f.name) for f in fields(Asked)}
    return Asked(**{**words, "per_layer": levels})


def read_levels(path: Path) -> dict[str, float] | dict[str, list[tuple[float, float]]]:
    """Return the sparsity of every tensor from a CSV file with the columns tensor and sparsity.

    With a column loss, several levels of every tensor, as pairs of a sparsity and the loss there.

    Raises `InputError` when it cannot be read or is no such file.
    """
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"--per-layer {path} is none of {', '.join(_SHARED)}, and no file that can be read: "
            f"{error}."
        ) from None
    levels: dict[str, float] = {}
    tables: dict[str, list[tuple[float, float]]] = {}
    try:
        for line in lines:
            name, sparsity = line["tensor"], float(line["sparsity"])
            if "loss" in line:
                tables.setdefault(name, []).append((sparsity, float(line["loss"])))
            elif name in levels:
                raise ValueError(f"{name} stands in two lines")
            else:
                levels[name] = sparsity
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--per-layer {path} must have the columns tensor and sparsity, with a number in each "
            f"line, and for several levels of a tensor a column loss: {error}."
        ) from None
    if not lines:
        raise InputError(f"--per-layer {path} lists no tensor.")
    return tables or levels


def _place(loc: Sequence[int | str]) -> str:
    """The name of a setting, without the alternatives of its type."""
    return ".".join(str(part) for part in loc if part not in ("int", "float", "str"))


def read_indices(path: Path) -> list[int]:
    """Return the sample indices of a text file, one a line; empty lines are skipped.

    Raises `InputError` when the file cannot be read or a line is not a whole number.
    """
    try:
        lines = path.read_text().splitlines()
        return [int(line) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--row-indices {path} cannot be read: {error}.") from None
    except ValueError as error:
        raise InputError(
            f"--row-indices {path} must hold one whole number a line: {error}."
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the settings of a run file, with underscores for dashes.

    Raises `InputError` when it cannot be read, is no TOML, or names a setting twice.
    """
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The run file {path} cannot be read: {error}. Check --config.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The run file {path} is not TOML: {error}. Correct that line.") from None
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    if len(settings) < len(found):
        twice = [name for name in found if "-" in name and name.replace("-", "_") in found]
        raise InputError(f"{path} gives {', '.join(twice)} with dashes and underscores. Keep one.")
    return settings
