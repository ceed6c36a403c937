"""Samples as tensors in a file: `.npz`, `.pt` or `.safetensors`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chita.data.examples import Examples
from chita.data.split import held_out
from chita.errors import InputError
from chita.machine import available_memory
from chita.pickles import load_torch

SUFFIXES = (".npz", ".pt", ".pth", ".safetensors")
_NAMES = ("inputs", "targets", "evaluation_inputs", "evaluation_targets")
_WAY_OUT = "Save a dict of tensors alone: torch.save({'inputs': ..., 'targets': ...}, path)."


def tensor_file(path: Path) -> tuple[Examples, Examples]:
    """Return (calibration, evaluation) of a file of tensors.

    It holds `inputs` and `targets`, and may hold `evaluation_inputs` and `evaluation_targets`;
    without these, a fifth of the samples is held out. A `.pt` file may also be a pair (inputs,
    targets). float64 becomes float32, and integers of targets int64.

    Raises `InputError` when tensors are missing, and `CheckpointError` on a file that cannot be
    read or holds more than tensors.
    """
    tensors = {name: _usual(name, tensor) for name, tensor in _read(path).items()}
    missing = [name for name in _NAMES[:2] if name not in tensors]
    if missing or ("evaluation_inputs" in tensors) != ("evaluation_targets" in tensors):
        raise InputError(
            f"{path} holds {', '.join(tensors) or 'nothing'}; it must hold "
            f"{' and '.join(_NAMES[:2])}, and may hold both of {' and '.join(_NAMES[2:])}."
        )
    unequal = len(tensors["inputs"]) != len(tensors["targets"])
    if unequal:
        raise InputError(
            f"{path} holds {len(tensors['inputs'])} inputs and {len(tensors['targets'])} targets; "
            "there must be as many of one as of the other."
        )
    calibration = Examples((tensors["inputs"], tensors["targets"]))
    if "evaluation_inputs" in tensors:
        return calibration, Examples((tensors["evaluation_inputs"], tensors["evaluation_targets"]))
    kept, evaluation = held_out(len(calibration))
    return calibration.take(kept), calibration.take(evaluation)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".npz":
            return _npz(path)
        if path.suffix == ".safetensors":
            return dict(load_file(path))
    except (OSError, SafetensorError, zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}. Write it again.") from None
    content: Any = load_torch(path, way_out=_WAY_OUT)
    match content:
        case (Tensor() as inputs, Tensor() as targets):
            return {"inputs": inputs, "targets": targets}
        case dict():
            return {str(name): t for name, t in content.items() if isinstance(t, Tensor)}
    raise InputError(f"{path} holds a {type(content).__name__}. {_WAY_OUT}")


def _npz(path: Path) -> dict[str, Tensor]:
    room = available_memory()
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if room is not None and unpacked > room // 2:
        raise InputError(
            f"{path} unpacks from {path.stat().st_size} to {unpacked} bytes, more than half of the "
            "free memory. It may be a zip bomb; check it, or give a part of it."
        )
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name in _NAMES}
    strange = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if strange:
        raise InputError(f"{path}: {', '.join(strange)} hold no numbers. Save plain arrays.")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _usual(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 0:
        raise InputError(f"{name} is a single number; its first dimension must run over samples.")
    if tensor.dtype == torch.float64:
        return tensor.float()
    whole = not tensor.is_floating_point() and not tensor.is_complex()
    return tensor.long() if name.endswith("targets") and whole else tensor
