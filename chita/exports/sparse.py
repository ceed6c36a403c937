"""The sparse file: zeros left out, and no runtime needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from chita.errors import OutputError
from chita.exports.checks import same_tensors
from chita.exports.kind import Checked, Kind, Pruned, count
from chita.models.checkpoint import load
from chita.sparse_file.writing import write_sparse


@final
class Sparse(Kind):
    """A `.chita` file, or the index of several where one would be too large."""

    name = "sparse"
    suffix = ".chita"
    about = "zeros left out; chita.load gives the tensors back"
    needs_network = False

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Write all tensors, in `values` where given.

        They are compared to the bit, and those in another type with the nearest number of it.
        """
        written = write_sparse(pruned.tensors, path, values=pruned.values)
        found = load(path)
        if pruned.values is None:
            same_tensors(self, pruned.tensors, found)
        else:
            _check_rounded(pruned.tensors, found, getattr(torch, pruned.values))
        raised = sum(written.raised.values())
        note = (
            f"{raised:,} values too small for {pruned.values} became its smallest number, in "
            f"{', '.join(written.raised)}"
        )
        nnz = count({name: found[name] != 0 for name in pruned.masks})
        return Checked(nnz=nnz, notes=(note,) if raised else ())


def _check_rounded(
    tensors: Mapping[str, Tensor], found: Mapping[str, Tensor], kind: torch.dtype
) -> None:
    """Raise `OutputError` where a value is not the nearest one, or a place changed to or from 0."""
    tiny = torch.finfo(kind).smallest_normal * torch.finfo(kind).eps  # the smallest there is
    for name, tensor in tensors.items():
        wide = tensor.dtype in (torch.float32, torch.float64)
        expected = tensor.to(kind).to(tensor.dtype) if wide else tensor
        if wide:
            raised = (expected == 0) & (tensor != 0)
            expected = torch.where(
                raised, torch.copysign(torch.tensor(tiny).to(tensor), tensor), expected
            )
        read = found.get(name)
        if read is None or read.dtype != tensor.dtype or not torch.equal(read, expected):
            raise OutputError(f"{name} was not read back as the nearest {kind}. It was not kept.")
