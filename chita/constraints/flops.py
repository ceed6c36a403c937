"""At most a share of the dense FLOPs, and at most some weights: what FALCON prunes to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from numbers import Real
from typing import final

from chita.constraints.constraint import Budget
from chita.constraints.sparsity import Nonzeros, Sparsity, check_floor
from chita.constraints.stored import Stored
from chita.constraints.under_flops import UnderFlops
from chita.errors import InputError
from chita.layout import Layout, Operations


@final
@dataclass(frozen=True, kw_only=True)
class Flops(Budget):
    """Keep at most the share `share` of the dense FLOPs, and at most what `weights` keeps.

    FLOPs are those of one sample's forward pass through the whole network, two for a multiply-add,
    so that those of layers that are not pruned count too; a weight that is removed saves all of
    its own. Meng et al., FALCON (AISTATS 2024), section 2. Unlike other budgets, both limits are
    upper ones; a mask leaves nothing out that would still fit.

    Fields: `share` in (0, 1]; `weights`, a `Sparsity`, `Nonzeros` or `Stored`, None for no limit;
    `min_keep` as there.

    Raises `InputError` on what is no share, and on binding where it cannot be met.
    """

    share: float
    weights: Sparsity | Nonzeros | Stored | None = None
    min_keep: int = 1

    def __post_init__(self) -> None:
        number = isinstance(self.share, Real) and not isinstance(self.share, bool)
        if not (number and 0 < self.share <= 1):
            raise InputError(
                f"flops is {self.share!r}; it is the share of the dense FLOPs that remains at "
                "most, above 0 and up to 1 (0.3 leaves 30 %)."
            )
        check_floor(self.min_keep)

    @property
    def counts_operations(self) -> bool:
        """Yes."""
        return True

    def kept(self, layout: Layout) -> int:
        """Return how many weights may be kept, the cheapest first."""
        bound = self.bind(layout)
        left, count = bound.limit, 0
        for cost, size in sorted(zip(bound.costs, layout.counts, strict=True)):
            fitting = min(size, left // cost) if cost else size
            left, count = left - fitting * cost, count + fitting
        return min(bound.k, count)

    def removed(self, layout: Layout) -> float:
        """Return the share of weights removed, or without a limit on these, that of FLOPs."""
        return self.weights.removed(layout) if self.weights is not None else 1 - self.share

    def on_the_way(self, removed: float, layout: Layout) -> Flops:
        """Both shares removed in proportion."""
        final = self.removed(layout)
        part = min(1.0, removed / final) if final else 0.0
        weights = self.weights and self.weights.on_the_way(removed, layout)
        share = max(self.share, 1 - part * (1 - self.share))
        return Flops(share=share, weights=weights, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> UnderFlops:
        """Keep at most that much.

        Raises `InputError` with the smallest share that would do.
        """
        operations = layout.operations
        if operations is None:
            raise InputError(
                "A budget of FLOPs needs a sample, whose forward pass tells what each weight "
                "costs. Give calibration data."
            )
        total = dense_operations(layout, operations)
        k = layout.size if self.weights is None else self.weights.bind(layout).k
        least = tuple(min(self.min_keep, count) for count in layout.counts)
        floors = sum(m * cost for m, cost in zip(least, operations.each, strict=True))
        allowed = Decimal(repr(float(self.share))) * total
        limit = int(allowed.to_integral_value(rounding=ROUND_FLOOR)) - operations.fixed
        if limit < floors:
            needed = operations.fixed + floors
            raise InputError(
                f"flops {self.share} allows {2 * (limit + operations.fixed):,} FLOPs of "
                f"{2 * total:,}, but what is not pruned takes {2 * operations.fixed:,} and the "
                f"{sum(least)} weights that --min-keep keeps {2 * floors:,}. Ask for at least "
                f"{_rounded_up(needed / total)}."
            )
        return UnderFlops(
            size=layout.size,
            k=k,
            limit=limit,
            costs=operations.each,
            segments=layout.segments,
            least=least,
        )


def dense_operations(layout: Layout, operations: Operations) -> int:
    """Return the multiply-adds of the dense network."""
    pairs = zip(operations.each, layout.counts, strict=True)
    return operations.fixed + sum(cost * count for cost, count in pairs)


def _rounded_up(share: float) -> float:
    """Four significant digits, never less than the number."""
    number = Decimal(repr(share))
    digits = Decimal(1).scaleb(number.adjusted() - 3)
    return float(min(Decimal(1), (number // digits + 1) * digits))
