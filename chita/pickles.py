"""PyTorch's own files, read without running code that is stored in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from chita.errors import CheckpointError

# What PyTorch says of objects, and of the frames with which pickles begin that it did not write.
_FOREIGN = ("GLOBAL", "UNSUPPORTED OPERAND 149")


def load_torch(path: Path, *, way_out: str, allow_pickle: bool = False) -> Any:
    """Return the content of a file written by `torch.save`, on the CPU.

    Args:
        path: the file.
        way_out: what to do when the file holds more than tensors and plain containers.
        allow_pickle: also unpickle foreign objects, which **runs code stored in the file**.

    Raises `CheckpointError` when the file is damaged, or needs `allow_pickle`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be read is an error below
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except ImportError as error:
        raise CheckpointError(
            f"{path} holds objects of a package that is not installed: {error}. Install it, or "
            "convert the file to safetensors where it is."
        ) from None
    except Exception as error:  # noqa: BLE001 (bytes that are no checkpoint make an unpickler fail in any way)
        if not allow_pickle and any(sign in str(error).upper() for sign in _FOREIGN):
            raise CheckpointError(
                f"{path} is a pickle with more than tensors in it, and loading it would run code "
                f"stored in the file. {way_out}"
            ) from None
        if "DTENSOR" in str(error).upper():
            raise CheckpointError(
                f"{path} holds sharded tensors (DTensor). Save them whole, by full_tensor()."
            ) from None
        raise CheckpointError(
            f"{path} is neither a safetensors nor a PyTorch file that can be read "
            f"({type(error).__name__}). Check that the file is complete."
        ) from None
