"""The network of a run folder, with data to call it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from chita.cli.feedback import Feedback
from chita.cli.session import Session, open_session
from chita.cli.settings import NetworkSettings, merge_settings
from chita.data.batches import batches_of
from chita.data.lines import PREFIX
from chita.errors import CheckpointError, InputError
from chita.exports.run_folder import read_record
from chita.imports import is_import
from chita.masks.storage import mask_file
from chita.models.zoo import LIBRARIES, load_model
from chita.runtimes.inputs import Inputs, inputs_of

_CONFIG = "config.json"
_READ = NetworkSettings.model_fields.keys() - {"weights", "allow_pickle", "loss", "device"}


def run_folder(run: Path) -> Path:
    """Return a folder that holds masks. Raises `CheckpointError` where it is none."""
    if not run.is_dir() or not mask_file(run).is_file():
        raise CheckpointError(
            f"{run} is no run folder: it holds no masks. Give one of chita prune."
        )
    return run


def settings_of_run(run: Path, given: Mapping[str, Any]) -> NetworkSettings:
    """Return how the network of a run and its data are named, `given` before the record.

    Settings that are None are not given. The weights are those of the run. A record is read, never
    obeyed: functions that it names are not called unless they are given, and nothing is unpickled
    because it was before.

    Raises:
        CheckpointError: there are no masks, or no record.
        InputError: the run was made from Python, so that its record names no network, or the
            record names functions, and they are not given.
    """
    record = read_record(run_folder(run))
    named = {n: v for n, v in record.settings.items() if n in _READ}
    asked = {name: value for name, value in given.items() if value is not None}
    code = [n for n in ("model", "data") if n not in asked and _is_code(named.get(n))]
    if code:
        options = " ".join(f"--{name} {named[name]}" for name in code)
        raise InputError(
            f"{run} names code of your own, which is not run because a file says so. If you trust "
            f"it, add: {options}"
        )
    if "model" not in named and "model" not in asked:
        raise InputError(
            f"{run} was made from Python, so its record names no network ({record.model}). Name it "
            "with --model, and its data with --data."
        )
    found = {**named, "weights": run, **asked}
    if str(found["model"]).startswith("hf:") and "model" not in asked:
        found["model"] = f"hf:{run}" if (run / _CONFIG).is_file() else found["model"]
    return merge_settings(NetworkSettings, None, found)


def _is_code(name: object) -> bool:
    library = str(name).partition(":")[0]
    return is_import(str(name)) and library not in (*LIBRARIES, PREFIX.removesuffix(":"))


def dense_of_run(
    run: Path, given: Mapping[str, Any], weights: Path | None
) -> tuple[nn.Module, str]:
    """Return the network that a run began with, and how it is named.

    With `weights`, its architecture with these.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    settings = settings_of_run(run, given)
    record = read_record(run)
    named = given.get("model") or record.settings.get("model", settings.model)
    if weights is None:
        weights = record.settings.get("weights")
    else:
        named = settings.model
    network, _ = load_model(named, weights, allow_pickle=settings.allow_pickle)
    return network, named


def inputs_for(session: Session, samples: int) -> Inputs | None:
    """Return inputs of a network, of so many samples: of its data, or those it shows itself.

    None where it has neither.
    """
    data = session.evaluation if session.evaluation is not None else session.calibration
    if data is not None:
        batch = next(batches_of(data, samples))
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        return inputs_of(batch[0] if pair else batch).resized(samples)
    shown = getattr(session.network, "dummy_inputs", None)
    return None if shown is None else inputs_of(shown).resized(samples)


def open_run(run: Path, given: Mapping[str, Any], feedback: Feedback) -> Session:
    """Return the network of a run, and its data where they are here.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    return open_session(settings_of_run(run, given), feedback=feedback, needs_data=False)
