"""All tensors as they are, zeros included, for whatever reads safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import final

from safetensors.torch import load_file, save_file

from chita.exports.checks import same_tensors
from chita.exports.kind import Checked, Kind, Pruned


@final
class Dense(Kind):
    """A safetensors file."""

    name = "dense"
    suffix = ".safetensors"
    about = "all tensors with their zeros, for anything that reads safetensors"
    needs_network = False

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Write all tensors; they are compared to the bit."""
        own = {name: tensor.clone().contiguous() for name, tensor in pruned.tensors.items()}
        save_file(own, path, metadata={"format": "pt"})
        found = load_file(path)
        same_tensors(pruned.tensors, found)
        return Checked(nnz=pruned.nnz_in(found))
