"""Outputs of modules that are needed again: in memory, and beyond a limit in files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@final
class Activations:
    """Values of any structure, by key; their tensors are put aside when memory runs short.

    Args:
        limit: bytes of tensors kept in memory, that of the CPU; what comes later is written to
            files in a folder of its own, which is gone with this object.

    What is neither a container nor a tensor is kept as it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._values: dict[Hashable, tuple[Any, list[Tensor] | Path, int]] = {}
        self._folder: Path | None = None
        self._files = 0

    @property
    def spilled(self) -> int:
        """How many values lie in files now."""
        return sum(isinstance(tensors, Path) for _, tensors, _ in self._values.values())

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value; one of the same key is replaced."""
        self.drop(key)
        tensors: list[Tensor] = []

        def taken(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            tensors.append(leaf.detach().cpu())
            return _Place(len(tensors) - 1, leaf.device)

        structure = mapped(taken, value)
        size = sum(tensor.nbytes for tensor in tensors)
        if self._held + size <= self._limit:
            self._held += size
            self._values[key] = structure, tensors, size
        else:
            self._values[key] = structure, self._written(tensors), 0

    def get(self, key: Hashable) -> Any:
        """Return the value of a key; what the caller does to its tensors in place is lost."""
        structure, tensors, _ = self._values[key]
        if isinstance(tensors, Path):
            found = load_file(tensors)
            own = [found[str(i)] for i in range(len(found))]
        else:
            own = [tensor.clone() for tensor in tensors]

        def given(leaf: Any) -> Any:
            return own[leaf.index].to(leaf.device) if isinstance(leaf, _Place) else leaf

        return mapped(given, structure)

    def drop(self, key: Hashable) -> None:
        """Forget the value of a key, if there is one."""
        found = self._values.pop(key, None)
        if found is None:
            return
        _, tensors, size = found
        self._held -= size
        if isinstance(tensors, Path):
            tensors.unlink(missing_ok=True)

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a value of this key."""
        return key in self._values

    def _written(self, tensors: list[Tensor]) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="chita-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._files += 1
        path = self._folder / f"{self._files}.safetensors"
        save_file({str(i): t.contiguous() for i, t in enumerate(tensors)}, path)
        return path


@final
class _Place:
    """Where a tensor of a structure lies in a list, and on which device it is used."""

    def __init__(self, index: int, device: torch.device) -> None:
        self.index, self.device = index, device


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with `function` applied to all that is no container.

    Unlike `nested.map_leaves`, mappings keep their type, as outputs of networks must.
    """
    if isinstance(value, Mapping):
        entries = {name: mapped(function, entry) for name, entry in value.items()}
        return entries if type(value) is dict else type(value)(**entries)
    if isinstance(value, (tuple, list)):
        parts = [mapped(function, entry) for entry in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return function(value)
