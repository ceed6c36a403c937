"""The mask file: packed bits in a safetensors file (format in `docs/formats.md`)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chita.errors import CheckpointError, failures_as

MASKS = "masks.safetensors"  # the name of the file in a folder
_FORMAT = {"format": "chita-masks", "version": "1"}


def save_masks(masks: Mapping[str, Tensor], path: Path) -> None:
    """Write named boolean masks (True = kept), eight weights to a byte.

    Weight i of a tensor, in row-major order, is bit i mod 8 (0 = least significant) of byte
    i div 8; the bits after the last weight are zero.
    """
    packed = {
        name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1), bitorder="little"))
        for name, mask in masks.items()
    }
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    save_file(packed, path, metadata={**_FORMAT, "shapes": shapes})


def mask_file(path: Path) -> Path:
    """Return where a folder keeps its masks, or the path itself where it is no folder."""
    return path / MASKS if path.is_dir() else path


def is_mask_file(path: Path) -> bool:
    """Return whether this is a file written by `save_masks`, of whatever version."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT["format"]
    except (OSError, SafetensorError):
        return False


def load_masks(path: Path) -> dict[str, Tensor]:
    """Return the masks of a file written by `save_masks`, as boolean tensors.

    Raises `CheckpointError` when the file is absent, of another format, or damaged.
    """
    what, ask = f"{path} cannot be read as a mask file", "Give the masks.safetensors of a run."
    with failures_as(CheckpointError, what, ask), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if {key: metadata.get(key) for key in _FORMAT} != _FORMAT:
            raise ValueError(f"it is not a mask file of format {_FORMAT}")
        shapes = json.loads(metadata["shapes"])
        return {n: _unpack(file.get_tensor(n), shapes[n], n) for n in shapes}


def _unpack(packed: Tensor, shape: list[int], name: str) -> Tensor:
    count = math.prod(shape)
    bits = np.unpackbits(packed.numpy(), bitorder="little") if packed.dtype == torch.uint8 else None
    if bits is None or len(bits) != 8 * -(-count // 8) or bits[count:].any():
        raise ValueError(f"the mask of {name} is damaged")
    return torch.from_numpy(bits[:count].astype(bool)).reshape(shape)
