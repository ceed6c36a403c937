"""Samples as tensors in a file: `.npz`, `.pt` or `.safetensors`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from chita.data.examples import Examples
from chita.data.split import shuffled_split
from chita.errors import InputError, failures_as
from chita.machine import available_memory
from chita.pickles import load_torch

SUFFIXES = (".npz", ".pt", ".pth", ".safetensors")
_NAMES = ("inputs", "targets", "evaluation_inputs", "evaluation_targets")
_WAY_OUT = "Save a dict of tensors only: torch.save({'inputs': ..., 'targets': ...}, path)."


def tensor_file(path: Path) -> tuple[Examples, Examples]:
    """Return (calibration, evaluation) of a file of tensors.

    It holds `inputs` and `targets`, and may hold `evaluation_inputs` and `evaluation_targets`;
    without these, a fifth of the samples is held out. A `.pt` file may also be a pair (inputs,
    targets). float64 becomes float32, and integers of targets int64.

    Raises `InputError` when tensors are missing, and `CheckpointError` on a file that cannot be
    read or holds more than tensors.
    """
    found = _read(path)
    _check_names(path, found)
    tensors = {name: _usual(path, name, found[name]) for name in _NAMES if name in found}
    calibration = _pair(path, tensors, *_NAMES[:2])
    if _NAMES[2] in tensors:
        return calibration, _pair(path, tensors, *_NAMES[2:])
    kept, evaluation = shuffled_split(len(calibration))
    return calibration.take(kept), calibration.take(evaluation)


def _check_names(path: Path, names: Iterable[str]) -> None:
    names = list(names)
    if any(n not in names for n in _NAMES[:2]) or (_NAMES[2] in names) != (_NAMES[3] in names):
        raise InputError(
            f"{path} holds {', '.join(names) or 'nothing'}; it must hold "
            f"{' and '.join(_NAMES[:2])}, and may hold both of {' and '.join(_NAMES[2:])}."
        )


def _pair(path: Path, tensors: Mapping[str, Tensor], inputs: str, targets: str) -> Examples:
    counts = len(tensors[inputs]), len(tensors[targets])
    if counts[0] != counts[1]:
        raise InputError(
            f"{path} holds {counts[0]} {inputs} and {counts[1]} {targets}; there must be as many "
            "of one as of the other."
        )
    return Examples((tensors[inputs], tensors[targets]))


def _read(path: Path) -> Mapping[str, Tensor]:
    with failures_as(InputError, f"{path} cannot be read", "Write it again."):
        if path.suffix.lower() == ".npz":
            return _npz(path)
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
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
        _check_names(path, file.files)
        arrays = {name: file[name] for name in file.files if name in _NAMES}
    strange = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if strange:
        raise InputError(f"{path}: {', '.join(strange)} hold no numbers. Save plain arrays.")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _usual(path: Path, name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 0:
        raise InputError(
            f"{path}: {name} is a single number; its first dimension must run over samples."
        )
    if tensor.dtype == torch.float64:
        return tensor.float()
    whole = not tensor.is_floating_point() and not tensor.is_complex()
    return tensor.long() if name.endswith("targets") and whole else tensor
