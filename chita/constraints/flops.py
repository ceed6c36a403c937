"""At most a share of the dense FLOPs, and at most some weights: what FALCON prunes to."""

from __future__ import annotations

from dataclasses import KW_ONLY, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any, final

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget
from chita.constraints.megabytes import Megabytes
from chita.constraints.sparsity import Nonzeros, Sparsity
from chita.constraints.under_flops import UnderFlops
from chita.errors import InputError
from chita.layout import Layout
from chita.options import option, shared

Weights = Sparsity | Nonzeros | Megabytes
"""What limits the weights, wherever they are."""


@final
class Flops(Budget, kw_only=False):
    """A share of the dense FLOPs to keep at most, and at most the weights that `weights` keeps.

    FLOPs are those of one sample's forward pass through the whole network, two for a multiply-add,
    so that those of layers that are not pruned count too; a weight that is removed saves all of
    its own. Meng et al., FALCON (AISTATS 2024), section 2. Unlike other budgets, both limits are
    upper ones; a mask leaves nothing out that would still fit.

    `Flops(0.3) & Sparsity(0.8)` asks for both, with the larger `min_keep` of the two.

    Raises `InputError` on binding if it cannot be met.

    >>> from chita.layout import Axes, Operations
    >>> layout = Layout(
    ...     names=("a", "b"),
    ...     shapes=((10,), (10,)),
    ...     axes=(Axes(), Axes()),
    ...     operations=Operations(each=(4, 1), fixed=50),
    ... )
    >>> Flops(0.75).bind(layout).limit  # of 50 + 40 + 10 multiply-adds, less the 50
    25
    """

    share: float = shared(BudgetOptions, "flops", required=True)
    _: KW_ONLY
    weights: Weights | None = option(
        None,
        "What the kept weights number or take at most; its own min_keep has no part.",
        unset="no limit",
    )
    min_keep: int = shared(BudgetOptions, "min_keep")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            return
        if not isinstance(self.weights, Weights):
            raise InputError(
                f"`weights` is {self.weights!r}; give a Sparsity, Nonzeros or Megabytes."
            )
        object.__setattr__(self, "weights", replace(self.weights, min_keep=self.min_keep))

    def limited(self, weights: object) -> Flops | None:
        """Return this budget with that limit; None if it has one, or that is no limit."""
        if self.weights is not None or not isinstance(weights, Weights):
            return None
        floor = max(self.min_keep, weights.min_keep)
        return Flops(self.share, weights=weights, min_keep=floor)

    @property
    def words(self) -> dict[str, Any]:
        """The share, those of the limit, and the floors."""
        limit = {} if self.weights is None else self.weights.words
        return {"flops": self.share, **limit, "min_keep": self.min_keep}

    @property
    def counts_operations(self) -> bool:
        """Yes: each weight costs multiply-adds."""
        return True

    def kept(self, layout: Layout) -> int:
        """Return how many weights may be kept, the cheapest first."""
        bound = self.bind(layout)
        # The most weights that the limit allows: which ones are kept is not known yet.
        left, count = bound.limit, 0
        for cost, size in sorted(zip(bound.costs, layout.counts, strict=True)):
            fitting = min(size, left // cost) if cost else size
            left, count = left - fitting * cost, count + fitting
        return min(bound.k, count)

    def removed(self, layout: Layout) -> float:
        """Return the share of weights removed, or without a limit on these, that of FLOPs."""
        return self.weights.removed(layout) if self.weights is not None else 1 - self.share

    def on_the_way(self, removed: float, layout: Layout) -> Flops:
        """Return the budget that has gone the same part of the way in FLOPs and in weights."""
        part = self.reached(removed, layout)
        weights = self.weights and self.weights.on_the_way(removed, layout)
        share = max(self.share, 1 - part * (1 - self.share))
        return replace(self, share=share, weights=weights)

    def bind(self, layout: Layout) -> UnderFlops:
        """Return the constraint to both limits.

        Raises `InputError` with the smallest share that would do.
        """
        operations = layout.operations
        if operations is None:
            raise InputError(
                "A budget of FLOPs needs a sample, whose forward pass shows what each weight "
                "costs. Give calibration data."
            )
        costs = operations.each
        k = layout.size if self.weights is None else self.weights.bind(layout).k
        least = layout.floors(self.min_keep)
        floors = sum(floor * cost for floor, cost in zip(least, costs, strict=True))
        dense = sum(count * cost for count, cost in zip(layout.counts, costs, strict=True))
        total = operations.fixed + dense
        # The share of the whole in exact decimals, rounded down; what is not pruned comes off.
        allowed = Decimal(repr(self.share)) * total
        limit = int(allowed.to_integral_value(rounding=ROUND_FLOOR)) - operations.fixed
        if limit < floors:
            needed = operations.fixed + floors
            raise InputError(
                f"`flops` {self.share} allows {2 * (limit + operations.fixed):,} FLOPs of "
                f"{2 * total:,}, but what is not pruned takes {2 * operations.fixed:,} and the "
                f"{sum(least)} weights that `min_keep` keeps {2 * floors:,}. Ask for at least "
                f"{_rounded_up(needed / total)}."
            )
        return UnderFlops(
            size=layout.size, k=k, limit=limit, costs=costs, segments=layout.segments, least=least
        )


def _rounded_up(share: float) -> float:
    """Return four significant digits of a number, never less than it."""
    number = Decimal(repr(share))
    digits = Decimal(1).scaleb(number.adjusted() - 3)
    return float(min(Decimal(1), (number // digits + 1) * digits))
