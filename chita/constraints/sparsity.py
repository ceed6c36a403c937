"""A number of weights to keep, over the whole network."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from typing import final

import torch
from torch import Tensor

from chita.arguments import whole_number
from chita.constraints.constraint import Budget, Constraint
from chita.errors import InputError
from chita.layout import Layout
from chita.linalg.select import largest
from chita.space import SerialSpace, Space


@final
@dataclass(frozen=True, kw_only=True)
class KeepK(Constraint):
    """Exactly k of p weights are kept, 0 <= k <= p.

    >>> import torch
    >>> KeepK(size=3, k=1).select(torch.tensor([1.0, 5.0, 5.0]))
    tensor([False,  True, False])
    """

    size: int
    k: int
    space: Space = SerialSpace()

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.size:
            raise InputError(f"{self.k} weights of {self.size} cannot be kept.")

    def select(self, scores: Tensor) -> Tensor:
        """The k largest scores, by selection."""
        if self.k == 0:
            return torch.zeros_like(scores, dtype=torch.bool)
        return largest(scores, self.k, self.space.kth_largest(scores, self.k))

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask keeps exactly k."""
        return len(mask) == self.size and int(self.space.sum(mask)) == self.k

    def restrict(self, index: Tensor, kept: int) -> KeepK:
        """k - kept of the named weights, or all of them where that is fewer."""
        return KeepK(size=len(index), k=min(len(index), self.k - kept), space=self.space)


@final
@dataclass(frozen=True, kw_only=True)
class Sparsity(Budget):
    """Remove the share `sparsity` of the weights: k = floor((1 - sparsity) p) are kept.

    The product is taken in exact decimal arithmetic on the number as written, so that 0.9 of
    32,360 keeps 3,236 (binary floating point gives 3,235).

    Raises `InputError` when sparsity is outside [0, 1).

    >>> Sparsity(sparsity=0.9).kept(32_360)
    3236
    """

    sparsity: float

    def __post_init__(self) -> None:
        share = self.sparsity
        if not (isinstance(share, Real) and not isinstance(share, bool) and 0 <= share < 1):
            raise InputError(
                f"sparsity is {share!r}; it is the share of weights removed, at least 0 and "
                "below 1 (0.9 keeps one weight in ten)."
            )

    def kept(self, size: int) -> int:
        """Return k for p = size."""
        share = 1 - Decimal(repr(float(self.sparsity)))
        return int((share * size).to_integral_value(rounding=ROUND_FLOOR))

    def bind(self, layout: Layout) -> KeepK:
        """Keep floor((1 - sparsity) p) weights."""
        return _keep(self.kept(layout.size), layout)


@final
@dataclass(frozen=True, kw_only=True)
class Nonzeros(Budget):
    """Keep exactly `nnz` weights.

    Raises `InputError` when nnz is below 1.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> Nonzeros(nnz=3).bind(layout).k
    3
    """

    nnz: int

    def __post_init__(self) -> None:
        whole_number("nnz", self.nnz, at_least=1, meaning="weights kept")

    def bind(self, layout: Layout) -> KeepK:
        """Keep nnz weights."""
        return _keep(operator.index(self.nnz), layout)


def _keep(k: int, layout: Layout) -> KeepK:
    if not 1 <= k <= layout.size:
        raise InputError(
            f"{k} weights to keep out of {layout.size}: keep between 1 and {layout.size}. Change "
            "sparsity or nnz."
        )
    return KeepK(size=layout.size, k=k)
