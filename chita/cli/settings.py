"""The settings of `chita prune`, from a run file and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from chita.errors import InputError
from chita.naming import nearest


class PruneSettings(BaseModel):
    """Every setting of a run, under the name of its option with underscores for dashes.

    `options` are the fields of the solver (`chita methods` lists them).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "digits-mlp"
    weights: Path | None = None
    allow_pickle: bool = False
    data: str | None = None
    data_dir: Path | None = None
    device: str = "cpu"
    sparsity: float | None = None
    nnz: int | None = None
    method: str = "chita"
    options: dict[str, int | float | str] = {}
    rows: int = 1000
    row_size: int = 1
    ridge: float | str = "0.1x"
    first_order: float = 0.0
    seed: int = 0
    row_indices: Path | None = None
    out: Path | None = None
    force: bool = False


def merge_settings(
    config: Path | None, given: Mapping[str, Any], options: Sequence[str]
) -> PruneSettings:
    """Return the run file's settings, overridden by what the command line gives.

    Args:
        config: a TOML file, or None.
        given: setting to value; None where the command line is silent.
        options: "name=value" texts for the solver.

    Raises:
        InputError: the file is no TOML, or a setting is unknown or of the wrong type; all at once.
    """
    settings = {k.replace("-", "_"): v for k, v in _read_toml(config).items()} if config else {}
    given = {name: value for name, value in given.items() if value is not None}
    if {"sparsity", "nnz"} & given.keys():
        settings = {k: v for k, v in settings.items() if k not in ("sparsity", "nnz")}
    if given.get("method", settings.get("method")) != settings.get("method"):
        settings = {k: v for k, v in settings.items() if k != "options"}  # of another method
    chosen = dict(option.partition("=")[::2] for option in options)
    file_options = settings.get("options", {})
    if chosen and isinstance(file_options, dict):
        given["options"] = {**file_options, **chosen}
    unknown = [name for name in settings if name not in PruneSettings.model_fields]
    if unknown:
        hints = " ".join(f"{n!r}: {nearest(n, PruneSettings.model_fields)}" for n in unknown)
        raise InputError(f"{config} has unknown settings. {hints}")
    try:
        return PruneSettings(**{**settings, **given})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise InputError(f"Settings that cannot be used: {faults}. Correct them.") from None


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


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The run file {path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The run file {path} is not TOML: {error}. Correct that line.") from None
