"""The matrix A (n, p) of row gradients, whatever holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

_GATHERED = 4096  # columns at a time
_TOGETHER = 2**25  # entries of columns that are formed at a time


class Rows(ABC):
    """A matrix A (n, p), one row per gradient, that can multiply and be gathered from.

    `times` multiplies a vector given in float64 in float64 whatever the storage, and so do the
    products with equal parts; all other products are in `dtype`.

    Args:
        n: number of rows.
        p: number of weights.
        dtype: type in which products are formed.
        device: where they are formed.
        factored: products are formed from factors, without streaming A.
        formed: columns are formed when they are asked for, those of neighbours together.
    """

    def __init__(
        self,
        n: int,
        p: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        factored: bool = False,
        formed: bool = False,
    ) -> None:
        self.n, self.p, self.dtype, self.device = n, p, dtype, device
        self.factored, self.formed = factored, formed

    @property
    def at_once(self) -> int:
        """Columns to ask for together."""
        return max(1, _TOGETHER // self.n) if self.formed else _GATHERED

    def type_with(self, v: Tensor) -> torch.dtype:
        """Return the type of a product with v: float64 where v is, else `dtype`."""
        return v.dtype if v.dtype == torch.float64 else self.dtype

    @abstractmethod
    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v (n,) for v (p,), or A_S v for a support index S (k,) and v (k,)."""

    @abstractmethod
    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return Aᵀ z (p,) for z (n,), or A_Sᵀ z (k,) for a support index S (k,)."""

    @abstractmethod
    def gather(self, index: Tensor) -> Tensor:
        """Return the columns of A named by index (k,) as a new tensor (k, n)."""

    @abstractmethod
    def part(self, segment: slice) -> Rows:
        """Return the columns of consecutive weights, of the same storage where that can be."""

    @abstractmethod
    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b (count, n) for each of so many equal parts of the weights, v (p,)."""

    @abstractmethod
    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b (p,) for z (count, n), a row for each equal part of the weights."""

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """Return the squared Euclidean norm of every column of A, (p,)."""

    def whole_gram(self) -> Tensor | None:
        """Return the lower triangle of A Aᵀ (n, n) in float64, None where not `factored`.

        Without factors it needs every column.
        """
        return None
