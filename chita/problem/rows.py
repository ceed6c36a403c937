"""The matrix A (n, p) of row gradients: the only file that knows where it lies."""

from __future__ import annotations

from typing import Protocol, final

import torch
from torch import Tensor

from chita.errors import InputError

_BLOCK = 256  # weights promoted to float64 at a time: the block stays in cache


class Rows(Protocol):
    """A matrix A (n, p), one row per gradient, that can multiply and be gathered from.

    `n` rows, `p` weights, `dtype` of the products. `times` multiplies a vector
    given in float64 in float64 whatever the storage; all other products are in `dtype`.
    """

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def p(self) -> int:
        """Number of weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Type in which products are formed."""

    @property
    def device(self) -> torch.device:
        """Where products are formed."""

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v (n,) for v (p,), or A_S v for a support index S (k,) and v (k,)."""

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return Aᵀ z (p,) for z (n,), or A_Sᵀ z (k,) for a support index S (k,)."""

    def gather(self, index: Tensor) -> Tensor:
        """Return the columns of A named by index (k,) as a new tensor (k, n)."""

    def squared_norms(self) -> Tensor:
        """Return the squared Euclidean norm of every column of A, (p,)."""


@final
class DenseRows:
    """A in memory, p-major: `data` (p, n) is Aᵀ, so a support is a gather of contiguous rows.

    Args:
        data: Aᵀ, shape (p, n), contiguous, floating point, n >= 1. Kept, not copied.

    Raises:
        InputError: `data` is not such a matrix.

    >>> rows = DenseRows(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
    >>> rows.times(torch.tensor([1.0, 1.0]))
    tensor([3., 1.])
    >>> rows.squared_norms()
    tensor([1., 5.])
    """

    def __init__(self, data: Tensor) -> None:
        if data.ndim != 2 or data.shape[1] == 0 or not data.is_floating_point():
            raise InputError(
                f"Rows need a floating-point matrix (p, n) with n >= 1; got {data.dtype} of shape "
                f"{tuple(data.shape)}."
            )
        self._data = data.contiguous()

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._data.shape[1]

    @property
    def p(self) -> int:
        """Number of weights."""
        return self._data.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Storage and product type."""
        return self._data.dtype

    @property
    def device(self) -> torch.device:
        """Where the matrix lies."""
        return self._data.device

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """A v, or A_S v: over the gathered columns, or over all of A where that is cheaper."""
        if v.dtype == torch.float64 != self.dtype:
            return self._times_in_float64(v, support)
        if support is None:
            return v @ self._data
        if self._gathers(support):
            return v @ self._data[support]
        return v.new_zeros(self.p).index_copy_(0, support, v) @ self._data

    def _gathers(self, support: Tensor) -> bool:
        # A gather reads and writes each column before the product reads it again.
        return 3 * len(support) < self.p

    def _times_in_float64(self, v: Tensor, support: Tensor | None) -> Tensor:
        product = v.new_zeros(self.n)
        for start in range(0, len(v), _BLOCK):
            block = slice(start, start + _BLOCK)
            columns = self._data[block if support is None else support[block]]
            product += v[block] @ columns.double()
        return product

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Aᵀ z or A_Sᵀ z in one pass; z is rounded to `dtype`."""
        z = z.to(self.dtype)
        if support is None:
            return self._data @ z
        if self._gathers(support):
            return self._data[support] @ z
        return (self._data @ z)[support]

    def gather(self, index: Tensor) -> Tensor:
        """The columns of A named by index (k,), copied to (k, n)."""
        return self._data[index]

    def squared_norms(self) -> Tensor:
        """Squared norms of the columns (p,), block by block."""
        return torch.cat([block.square().sum(1) for block in self._data.split(1 << 16)])
