"""Rows of the same weights one below another, each lot stored in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from chita.problem.rows.rows import Rows


@final
class VStackRows(Rows):
    """A = [A₁; A₂; ...], (n₁ + n₂ + ..., p): nothing is copied.

    Products with the factors of a lot are its own; over all lots A counts as dense, since the Gram
    of all rows has entries between lots.

    >>> from chita.problem import DenseRows
    >>> row = DenseRows(torch.tensor([[1.0], [2.0]]))
    >>> VStackRows([row, row]).times(torch.tensor([1.0, 10.0]))
    tensor([21., 21.])
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = list(parts)
        self._counts = [part.n for part in self._parts]
        first, formed = self._parts[0], any(part.formed for part in self._parts)
        n = sum(self._counts)
        super().__init__(n, first.p, first.dtype, first.device, formed=formed)

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return the parts' products, one after another."""
        return torch.cat([part.times(v, support) for part in self._parts])

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return the sum of the parts' products."""
        each = zip(self._parts, z.split(self._counts), strict=True)
        return torch.stack([part.transpose_times(own, support) for part, own in each]).sum(0)

    def gather(self, index: Tensor) -> Tensor:
        """Return the parts' columns side by side, (k, n)."""
        return torch.cat([part.gather(index) for part in self._parts], 1)

    def part(self, segment: slice) -> Rows:
        """Return the columns of consecutive weights, of every lot."""
        return VStackRows([part.part(segment) for part in self._parts])

    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b, the parts' products side by side."""
        return torch.cat([part.times_each(v, count) for part in self._parts], 1)

    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b, the sum of the parts' products."""
        each = zip(self._parts, z.split(self._counts, 1), strict=True)
        return torch.stack([part.transpose_times_each(own) for part, own in each]).sum(0)

    def squared_norms(self) -> Tensor:
        """Return squared norms of the columns (p,)."""
        return torch.stack([part.squared_norms() for part in self._parts]).sum(0)
