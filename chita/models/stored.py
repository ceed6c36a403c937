"""Tensors in safetensors files, where one with several names is stored once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from chita.models.wrappers import place

_FORMAT = {"format": "pt"}


def once(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without those that are another one under a second name.

    >>> one = torch.ones(2)
    >>> list(once({"embedding": one, "head": one, "bias": torch.ones(2)}))
    ['embedding', 'bias']
    """
    return {name: tensors[name] for name in dict.fromkeys(_firsts(tensors).values())}


def write_stored(
    tensors: Mapping[str, Tensor], path: Path, *, tied: Container[str] | None = None
) -> None:
    """Write named tensors, each once; the metadata say which one another name stands for.

    `safetensors.torch.save_model` writes it so, too. `tied` are the names that may be left out,
    None for all but the first of a tensor.
    """
    other = {
        name: first
        for name, first in _firsts(tensors).items()
        if name not in {first, *_FORMAT} and (tied is None or name in tied)
    }
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
        if name not in other
    }
    save_file(own, path, metadata={**_FORMAT, **other})


def read_stored(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a safetensors file, also under the names its metadata tell."""
    found: dict[str, Tensor] = load_file(path)
    told = told_names(path)
    return {name: found[first] for name, first in told.items() if first in found} | found


def told_names(path: Path) -> dict[str, str]:
    """Return names that the metadata of a safetensors file tell, and the names that they stand for.

    Every file may tell its format, which is no name, even where a tensor is called "pt".
    """
    with safe_open(path, framework="pt") as file:
        return {name: first for name, first in (file.metadata() or {}).items() if name != "format"}


def _firsts(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The first name of the same tensor, by every name."""
    seen: dict[object, str] = {}
    where = {name: place(tensor) for name, tensor in tensors.items()}
    keys = {n: n if where[n] is None else (where[n], t.dtype) for n, t in tensors.items()}
    return {name: seen.setdefault(key, name) for name, key in keys.items()}
