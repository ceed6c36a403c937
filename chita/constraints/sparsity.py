"""Budgets over the whole network: a share removed, or a number kept."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from typing import final

from chita.arguments import whole_number
from chita.constraints.constraint import Budget, Constraint
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.keep_k import KeepK
from chita.errors import InputError
from chita.layout import Layout


@final
@dataclass(frozen=True, kw_only=True)
class Sparsity(Budget):
    """Remove the share `sparsity` of the weights: k = floor((1 - sparsity) p) are kept.

    The product is taken in exact decimal arithmetic on the number as written, so that 0.9 of
    32,360 keeps 3,236 (binary floating point gives 3,235).

    At least `min_keep` weights are kept in every tensor, or all of a smaller one.

    Raises `InputError` when sparsity is outside [0, 1).

    >>> Sparsity(sparsity=0.9).kept(32_360)
    3236
    """

    sparsity: float
    min_keep: int = 1

    def __post_init__(self) -> None:
        _check_floor(self.min_keep)
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

    def on_the_way(self, sparsity: float) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(sparsity=sparsity, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> Constraint:
        """Keep floor((1 - sparsity) p) weights."""
        return _keep(self.kept(layout.size), layout, self.min_keep)


@final
@dataclass(frozen=True, kw_only=True)
class Nonzeros(Budget):
    """Keep exactly `nnz` weights, and at least `min_keep` of them in every tensor.

    Raises `InputError` when nnz is below 1.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> Nonzeros(nnz=3).bind(layout).k
    3
    """

    nnz: int
    min_keep: int = 1

    def __post_init__(self) -> None:
        _check_floor(self.min_keep)
        whole_number("nnz", self.nnz, at_least=1, meaning="weights kept")

    def kept(self, size: int) -> int:
        """Return k, whatever the size."""
        return operator.index(self.nnz)

    def on_the_way(self, sparsity: float) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(sparsity=sparsity, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> Constraint:
        """Keep nnz weights."""
        return _keep(operator.index(self.nnz), layout, self.min_keep)


def _check_floor(min_keep: int) -> None:
    whole_number("min_keep", min_keep, at_least=0, meaning="weights kept in every tensor")


def _keep(k: int, layout: Layout, min_keep: int) -> Constraint:
    if not 1 <= k <= layout.size:
        raise InputError(
            f"{k} weights to keep out of {layout.size}: keep between 1 and {layout.size}. Change "
            "sparsity or nnz."
        )
    least = tuple(min(min_keep, count) for count in layout.counts)
    if not any(least):
        return KeepK(size=layout.size, k=k)
    return KeepKWithFloors(size=layout.size, k=k, segments=layout.segments, least=least)
