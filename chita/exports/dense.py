"""All tensors as they are, zeros included, for whatever reads safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import final

from chita.exports.checks import same_tensors
from chita.exports.kind import Checked, Kind, Pruned
from chita.models.stored import read_stored, write_stored


@final
class Dense(Kind):
    """A safetensors file."""

    name = "dense"
    suffix = ".safetensors"
    about = "all tensors with their zeros, for anything that reads safetensors"
    needs_network = False

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Write all tensors; they are compared to the bit."""
        write_stored(pruned.tensors, path)
        found = read_stored(path)
        same_tensors(pruned.tensors, found)
        return Checked(nnz=pruned.nnz_in(found))
