"""Outputs of modules that are needed again: in memory, and beyond a limit in files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from chita import nested


@final
class Activations:
    """Values of any structure, by key, in memory and beyond a limit in files.

    Args:
        limit: bytes of tensors kept in memory, that of the CPU; what comes later is written to
            files in a folder of its own, which is gone with this object.

    What is neither a container nor a tensor is kept as it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._values: dict[Hashable, tuple[Any, list[Tensor] | Path]] = {}
        self._folder: Path | None = None
        self._files = 0

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value; one of the same key is replaced."""
        self.drop(key)
        tensors: list[Tensor] = []

        def taken(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            tensors.append(leaf.detach().cpu())
            return _Reference(len(tensors) - 1, leaf.device)

        structure = nested.map_leaves(taken, value)
        size = sum(tensor.nbytes for tensor in tensors)
        fits = self._held + size <= self._limit
        self._held += size if fits else 0
        self._values[key] = structure, tensors if fits else self._written(tensors)

    def get(self, key: Hashable) -> Any:
        """Return the value of a key; what the caller does to its tensors in place is lost."""
        structure, tensors = self._values[key]
        if isinstance(tensors, Path):
            found = load_file(tensors)
            own = [found[str(i)] for i in range(len(found))]
        else:
            own = [tensor.clone() for tensor in tensors]

        def given(leaf: Any) -> Any:
            return own[leaf.index].to(leaf.device) if isinstance(leaf, _Reference) else leaf

        return nested.map_leaves(given, structure)

    def drop(self, key: Hashable) -> None:
        """Forget the value of a key, if there is one."""
        _, tensors = self._values.pop(key, (None, []))
        if isinstance(tensors, Path):
            tensors.unlink(missing_ok=True)
        else:
            self._held -= sum(tensor.nbytes for tensor in tensors)

    def _written(self, tensors: list[Tensor]) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="chita-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._files += 1
        path = self._folder / f"{self._files}.safetensors"
        save_file({str(i): t.contiguous() for i, t in enumerate(tensors)}, path)
        return path


@dataclass(frozen=True)
class _Reference:
    """What stands in a structure for a tensor: its index in a list, and the device of its use."""

    index: int
    device: torch.device
