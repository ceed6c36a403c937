"""Budgets over the whole network: a share removed, or a number kept."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from typing import final

from chita.arguments import whole_number
from chita.constraints.constraint import Budget
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

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((32_360,),), axes=(Axes(),))
    >>> Sparsity(sparsity=0.9).kept(layout)
    3236
    """

    sparsity: float
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_keep)
        check_share(self.sparsity)

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(sparsity=removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep floor((1 - sparsity) p) weights."""
        return keep(self.kept(layout), layout, self.min_keep)


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
        check_floor(self.min_keep)
        whole_number("nnz", self.nnz, at_least=1, meaning="weights kept")

    def kept(self, layout: Layout) -> int:
        """Return k, whatever the layout."""
        return operator.index(self.nnz)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(sparsity=removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep nnz weights."""
        return keep(operator.index(self.nnz), layout, self.min_keep)


def check_floor(min_keep: int) -> None:
    """Raise `InputError` unless this is a number of weights."""
    whole_number("min_keep", min_keep, at_least=0, meaning="weights kept in every tensor")


def check_share(sparsity: float) -> None:
    """Raise `InputError` unless this is a share that can be removed."""
    number = isinstance(sparsity, Real) and not isinstance(sparsity, bool)
    if not (number and 0 <= sparsity < 1):
        raise InputError(
            f"sparsity is {sparsity!r}; it is the share of weights removed, at least 0 and "
            "below 1 (0.9 keeps one weight in ten)."
        )


def share_kept(sparsity: float, count: int) -> int:
    """Return floor((1 - sparsity)·count), in exact decimal arithmetic on the number as written.

    >>> share_kept(0.9, 32_360)
    3236
    """
    share = 1 - Decimal(repr(float(sparsity)))
    return int((share * count).to_integral_value(rounding=ROUND_FLOOR))


def keep(k: int, layout: Layout, min_keep: int) -> KeepK | KeepKWithFloors:
    """Return the constraint to k weights in all and min_keep in every tensor.

    Raises `InputError` where k is out of range or the floors are above it.
    """
    if not 1 <= k <= layout.size:
        raise InputError(
            f"{k} weights to keep out of {layout.size}: keep between 1 and {layout.size}. Change "
            "sparsity or nnz."
        )
    least = tuple(min(min_keep, count) for count in layout.counts)
    if not any(least):
        return KeepK(size=layout.size, k=k)
    return KeepKWithFloors(size=layout.size, k=k, segments=layout.segments, least=least)
