"""The sparse file: zeros left out, and no runtime needed to read it."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor

from chita.exports.checks import same_tensors
from chita.exports.kind import Checked, Kind, Pruned
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
        expected = pruned.tensors
        if pruned.values is not None:
            dtype = getattr(torch, pruned.values)
            expected = {name: _rounded(tensor, dtype) for name, tensor in expected.items()}
        same_tensors(expected, found)
        raised = sum(written.raised.values())
        note = (
            f"{raised:,} values too small for {pruned.values} became its smallest number, in "
            f"{', '.join(written.raised)}"
        )
        return Checked(nnz=pruned.nnz_in(found), notes=(note,) if raised else ())


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of the nearest values that `dtype` has, in its own type and with its own zeros."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor
    nearest = tensor.to(dtype).to(tensor.dtype)
    limits = torch.finfo(dtype)
    tiny = torch.full_like(tensor, limits.smallest_normal * limits.eps)  # the smallest there is
    lost = (nearest == 0) & (tensor != 0)
    return torch.where(lost, torch.copysign(tiny, tensor), nearest)
