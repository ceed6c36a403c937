"""Budgets over the whole network: a share removed, or a number kept."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, final

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.keep_k import KeepK
from chita.errors import InputError
from chita.layout import Layout
from chita.options import described, shared


@final
@dataclass(frozen=True)
class Sparsity(Budget):
    """Remove the share `sparsity` of the weights: k = floor((1 - sparsity) p) are kept.

    The product is taken in exact decimal arithmetic on the number as written, so that 0.9 of
    32,360 keeps 3,236 (binary floating point gives 3,235).

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((32_360,),), axes=(Axes(),))
    >>> Sparsity(0.9).kept(layout)
    3236
    """

    sparsity: float = shared(BudgetOptions, "sparsity", required=True)
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """The share and the floors."""
        return {"sparsity": self.sparsity, "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep floor((1 - sparsity) p) weights."""
        return keep(self.kept(layout), layout, self.min_keep)


@final
@dataclass(frozen=True)
class Nonzeros(Budget):
    """Keep exactly `nnz` weights, and at least `min_keep` of them in every tensor.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> Nonzeros(3).bind(layout).k
    3
    """

    nnz: int = shared(BudgetOptions, "nnz", required=True)
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """The number and the floors."""
        return {"nnz": self.nnz, "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return k, whatever the layout."""
        return self.nnz

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep nnz weights."""
        return keep(self.nnz, layout, self.min_keep)


def check_share(sparsity: object, of: str = "") -> float:
    """Return a share that can be removed, as `Sparsity` takes it.

    Raises `InputError` on anything else; `of` names what the share is of.

    >>> check_share(0.5)
    0.5
    """
    try:
        share: float = described(Sparsity)[0].checked(sparsity)
    except InputError as error:
        raise InputError(f"{of}: {error}" if of else str(error)) from None
    return share


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
            "`sparsity` or `nnz`."
        )
    least = tuple(min(min_keep, count) for count in layout.counts)
    if not any(least):
        return KeepK(size=layout.size, k=k)
    return KeepKWithFloors(size=layout.size, k=k, segments=layout.segments, least=least)
