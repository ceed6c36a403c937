"""Global operations over the p weights: in this process, or (later) over several ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from chita.linalg.select import kth_largest

_BLOCK = 1 << 20  # entries promoted to float64 at a time


class Space(ABC):
    """The only operations in which a solver sees all p weights at once.

    When the weights are split over processes, an implementation reduces over them and no solver
    changes.
    """

    @abstractmethod
    def dot(self, a: Tensor, b: Tensor) -> float:
        """Return the inner product of a (p,) and b (p,), accumulated in float64."""

    @abstractmethod
    def sum(self, a: Tensor) -> float:
        """Return the sum of a (p,), accumulated in float64 (a count, for a mask)."""

    @abstractmethod
    def kth_largest(self, values: Tensor, k: int) -> Tensor:
        """Return the k-th largest of values (p,), 1 <= k <= p, as a scalar tensor."""


@final
class SerialSpace(Space):
    """All weights in this process.

    >>> import torch
    >>> SerialSpace().dot(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    11.0
    """

    def dot(self, a: Tensor, b: Tensor) -> float:
        """Inner product in float64, block by block."""
        blocks = zip(a.split(_BLOCK), b.split(_BLOCK), strict=True)
        return sum((float(x.double() @ y.double()) for x, y in blocks), 0.0)

    def sum(self, a: Tensor) -> float:
        """Sum in float64, block by block; of a mask its ones."""
        if a.dtype == torch.bool:
            return float(a.count_nonzero())
        return sum((float(x.double().sum()) for x in a.split(_BLOCK)), 0.0)

    def kth_largest(self, values: Tensor, k: int) -> Tensor:
        """The k-th largest by selection, not by sorting."""
        return kth_largest(values, k)
