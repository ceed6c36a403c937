"""The network of a run folder, with data to call it with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from chita.cli.requests import BenchmarkRequest, EvaluateRequest, ExportRequest
from chita.cli.session import Session, open_session
from chita.data.lines import PREFIX
from chita.errors import CheckpointError, InputError
from chita.exports.reading import read_record
from chita.imports import is_import
from chita.masks.storage import mask_file
from chita.models.hugging_face import CONFIG
from chita.models.zoo import LIBRARIES, load_network
from chita.options import values_of
from chita.settings import request_of


def run_folder(run: Path) -> Path:
    """Return a folder that holds masks. Raises `CheckpointError` on any other."""
    if not run.is_dir() or not mask_file(run).is_file():
        raise CheckpointError(
            f"{run} is no run folder: it holds no masks. Give one of chita prune."
        )
    return run


def request_of_run(run: Path, request: ExportRequest | BenchmarkRequest) -> EvaluateRequest:
    """Return how the network of a run and its data are named, by `request` before the record.

    The weights are those of the run. A record is read, never obeyed: functions that it names are
    not called unless they are given, and nothing is unpickled because it was before.

    Raises:
        CheckpointError: there are no masks, or no record.
        InputError: the run was made from Python, so that its record names no network, or the
            record names functions, and they are not given.
    """
    record = read_record(run_folder(run))
    given = {**values_of(request.network), **values_of(request.data)}
    asked = {name: value for name, value in given.items() if value is not None}
    read = given.keys() - {"allow_pickle", "loss"}
    named = {name: value for name, value in record.settings.items() if name in read}
    code = [n for n in ("model", "data") if n not in asked and _is_code(named.get(n))]
    if code:
        options = " ".join(f"--{name} {named[name]}" for name in code)
        raise InputError(
            f"Give {options}: code of your own named in a file is not run unasked, and {run} "
            "names it."
        )
    if "model" not in named and "model" not in asked:
        raise InputError(
            f"{run} was made from Python, so its record names no network ({record.model}). Name it "
            "with --model, and its data with --data."
        )
    found: dict[str, Any] = {**named, "weights": run, **asked}
    if str(found["model"]).startswith("hf:") and "model" not in asked:
        found["model"] = f"hf:{run}" if (run / CONFIG).is_file() else found["model"]
    return request_of(EvaluateRequest, found)


def _is_code(name: object) -> bool:
    library = str(name).partition(":")[0]
    return is_import(str(name)) and library not in (*LIBRARIES, PREFIX.removesuffix(":"))


def dense_of_run(request: BenchmarkRequest) -> tuple[nn.Module, str]:
    """Return the network that a run began with, and how it is named.

    With other weights, where `dense` names them.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    run, dense, given = request.benchmark.run, request.benchmark.dense, request.network
    settings = read_record(run).settings
    model = request_of_run(run, request).network.model
    named = model if dense else given.model or settings.get("model", model)
    before = dense or settings.get("weights")
    network, _ = load_network(named, before, allow_pickle=given.allow_pickle)
    return network, named


def open_run(run: Path, request: ExportRequest | BenchmarkRequest) -> Session:
    """Return the network of a run, and its data where they are here.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    found = replace(request_of_run(run, request), report=request.report)
    return open_session(found, needs_data=False)
