"""Budgets over the whole network: a share removed, or a number kept."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Self, final

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget
from chita.constraints.keep_k import KeepK
from chita.errors import InputError
from chita.layout import Layout
from chita.options import shared, values_of


class WeightBudget(Budget):
    """A budget of weights, wherever they are, and at least `min_keep` of them in every tensor."""

    @property
    @abstractmethod
    def min_keep(self) -> int:
        """Weights that are kept at least in every tensor."""

    @property
    def words(self) -> dict[str, Any]:
        """The fields."""
        return values_of(self)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Return the budget that removes that share, with the same floors."""
        return Sparsity(removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK:
        """Return the constraint to that number of weights.

        Raises `InputError` if it is out of range, or the floors are above it.
        """
        k = self.kept(layout)
        if not 1 <= k <= layout.size:
            raise InputError(
                f"{k} weights to keep out of {layout.size}: keep between 1 and {layout.size}. "
                "Change `sparsity` or `nnz`."
            )
        least = layout.floors(self.min_keep)
        return KeepK(size=layout.size, k=k, segments=layout.segments, least=least)


class ShareBudget(Budget, kw_only=False):
    """A budget of a share of the weights to remove; stages before the last remove less alike."""

    sparsity: float = shared(BudgetOptions, "sparsity", required=True)

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> Self:
        """Return a smaller share, with all else as it is."""
        return replace(self, sparsity=removed)


@final
class Sparsity(WeightBudget, kw_only=False):
    """A share of the weights to remove: k = floor((1 - sparsity) p) are kept.

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

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)


@final
class Nonzeros(WeightBudget, kw_only=False):
    """A number of weights to keep: exactly `nnz`, at least `min_keep` of them in every tensor.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> Nonzeros(3).bind(layout).k
    3
    """

    nnz: int = shared(BudgetOptions, "nnz", required=True)
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    def kept(self, layout: Layout) -> int:
        """Return k, whatever the layout."""
        return self.nnz


def check_share(sparsity: object, of: str = "") -> float:
    """Return a share that can be removed, as `Sparsity` takes it.

    Raises `InputError` on anything else; `of` names what the share is of.

    >>> check_share(0.5)
    0.5
    """
    try:
        return Sparsity(sparsity).sparsity  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{of}: {error}" if of else str(error)) from None


def share_kept(sparsity: float, count: int) -> int:
    """Return floor((1 - sparsity)·count), in exact decimal arithmetic on the number as written.

    >>> share_kept(0.9, 32_360)
    3236
    """
    # `repr` is the shortest decimal that is this float: the number as it was written. In binary
    # 1 - 0.9 is a little less than 0.1, and the floor would lose a weight.
    share = 1 - Decimal(repr(float(sparsity)))
    return int((share * count).to_integral_value(rounding=ROUND_FLOOR))
