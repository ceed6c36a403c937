"""Rows in memory, as one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from chita.errors import InputError
from chita.problem.rows.rows import Rows

_BLOCK = 256  # weights promoted or squared at a time: the block stays in cache
_ENTRIES = 2**24  # of A in equal parts at a time, where they are not in the type of the product
_GATHERED = 2048  # columns gathered at a time: as fast as all at once, in little memory


@final
class DenseRows(Rows):
    """A in memory, p-major: `data` (p, n) is Aᵀ, so a support is a gather of contiguous rows.

    Products are formed in the type of the storage, and in float32 where that has 16 bits.

    Args:
        data: Aᵀ, shape (p, n), contiguous, floating point, n >= 1. Kept, not copied.
        scale: (p,), by which every column of A is to be multiplied, so that float16 need not hold
            small gradients as they are; None for ones.

    Raises:
        InputError: `data` is not such a matrix.

    >>> rows = DenseRows(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
    >>> rows.times(torch.tensor([1.0, 1.0]))
    tensor([3., 1.])
    >>> rows.squared_norms()
    tensor([1., 5.])
    """

    def __init__(self, data: Tensor, scale: Tensor | None = None) -> None:
        if data.ndim != 2 or data.shape[1] == 0 or not data.is_floating_point():
            raise InputError(
                f"Rows need a floating-point matrix (p, n) with n >= 1; got {data.dtype} of shape "
                f"{tuple(data.shape)}."
            )
        dtype = torch.float32 if data.element_size() < 4 else data.dtype
        super().__init__(data.shape[1], data.shape[0], dtype, data.device)
        self._data = data.contiguous()
        self._scale = None if scale is None else scale.to(dtype)

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v, or A_S v: over gathered columns, or over all of A where that is cheaper."""
        if v.dtype == torch.float64 != self.dtype:
            return self._times_in_float64(v, support)
        if support is not None and not self._gathers(support):
            v, support = v.new_zeros(self.p).index_copy_(0, support, v), None
        if support is None and self._direct:
            return v @ self._data
        blocks = self._blocks(support, _GATHERED)
        return torch.stack([v[at] @ self._columns(block) for at, block in blocks]).sum(0)

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return Aᵀ z or A_Sᵀ z in one pass; z is rounded to `dtype`."""
        z = z.to(self.dtype)
        if support is not None and not self._gathers(support):
            return self.transpose_times(z)[support]
        if support is None and self._direct:
            return self._data @ z
        return torch.cat([self._columns(b) @ z for _, b in self._blocks(support, _GATHERED)])

    def gather(self, index: Tensor) -> Tensor:
        """Return the columns of A named by index (k,), copied to (k, n)."""
        return self._columns(index)

    def part(self, segment: slice) -> DenseRows:
        """Return the columns of consecutive weights, not copied."""
        scale = None if self._scale is None else self._scale[segment]
        return DenseRows(self._data[segment], scale)

    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b, a product for every part, in the type of a float64 v."""
        wide = self.type_with(v)
        parted = v.to(wide).view(count, 1, -1)
        products = [parted[at] @ part.to(wide) for at, part in self._parted(count)]
        return torch.cat(products).squeeze(1)

    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b in one pass: for a float64 z in float64, for any other in `dtype`."""
        wide = self.type_with(z)
        parted = z.to(wide).unsqueeze(1)  # a row by many columns is a fourth of many by a column
        products = [parted[at] @ part.to(wide).mT for at, part in self._parted(len(z))]
        return torch.cat(products).flatten()

    def _parted(self, count: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield the columns as equal parts, (parts, weights of one, n), some parts at a time."""
        width = self.p // count
        some = max(1, _ENTRIES // (width * self.n))
        for start in range(0, count, some):
            at = slice(start, min(count, start + some))
            columns = self._columns(slice(at.start * width, at.stop * width))
            yield at, columns.view(-1, width, self.n)

    def squared_norms(self) -> Tensor:
        """Return squared norms of the columns (p,), block by block."""
        norms = torch.empty(self.p, dtype=self.dtype, device=self.device)
        for at, block in self._blocks(None, _BLOCK):
            norms[at] = self._columns(block).square().sum(1)
        return norms

    @property
    def _direct(self) -> bool:
        """True where products can be formed on the storage as it is."""
        return self._data.dtype == self.dtype and self._scale is None

    def _gathers(self, support: Tensor) -> bool:
        # A gather reads and writes each column before the product reads it again.
        return 3 * len(support) < self.p

    def _columns(self, index: Tensor | slice) -> Tensor:
        """Return columns of A in the type of the products, (k, n)."""
        columns = self._data[index].to(self.dtype)
        return columns if self._scale is None else columns * self._scale[index].unsqueeze(1)

    def _blocks(self, support: Tensor | None, size: int) -> Iterator[tuple[slice, Tensor | slice]]:
        """Yield blocks of the support, or of all weights: their places in v, and which weights."""
        count = self.p if support is None else len(support)
        for start in range(0, max(count, 1), size):
            at = slice(start, start + size)
            yield at, at if support is None else support[at]

    def _times_in_float64(self, v: Tensor, support: Tensor | None) -> Tensor:
        product = v.new_zeros(self.n)
        promoted = v.new_empty(_BLOCK, self.n)  # one for all blocks: new memory costs more
        for at, block in self._blocks(support, _BLOCK):
            columns = self._columns(block)
            product += v[at] @ promoted[: len(columns)].copy_(columns)
        return product


def gathered(rows: Rows) -> DenseRows:
    """Return all columns of any rows as one matrix in memory."""
    return DenseRows(rows.gather(torch.arange(rows.p, device=rows.device)))
