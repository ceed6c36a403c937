"""A share of every layer by its outliers: less is removed where few weights do most of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Budget
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.per_layer import exactly
from chita.constraints.sparsity import check_floor, check_share, share_kept
from chita.errors import InputError
from chita.layout import Layout

_FINE = 10**9  # steps of a density, which is apportioned in whole numbers


@final
@dataclass(frozen=True, kw_only=True)
class ByOutliers(Budget):
    """Remove the share `sparsity` over the network, from every tensor by its share of outliers.

    With D_t the share of outliers of tensor t, mapped linearly so that the smallest is 0 and the
    largest 2·`spread`, its density is proportional to 1 - sparsity + D_t - mean D. So sparsities
    spread by `spread` to both sides at most, and counts are exact in sum.

    Yin et al., Outlier weighed layerwise sparsity (2024), equations 1 to 3, with their λ = 0.08 as
    `spread`; they measure D by transformer block. Departure: rounding makes the whole count exact.

    Fields: `sparsity`; `shares`, D by name, None before it is measured
    (`chita.pruning.outliers`); `spread` in [0, 0.5]; `min_keep` as in `Sparsity`.

    Raises `InputError` on what is out of range, and on binding before shares are measured.
    """

    sparsity: float
    shares: Mapping[str, float] | None = None
    spread: float = 0.08
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_keep)
        check_share(self.sparsity)
        if not 0 <= self.spread <= 0.5:
            raise InputError(f"spread is {self.spread}; give a number in [0, 0.5], such as 0.08.")

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> ByOutliers:
        """A smaller share, spread alike."""
        return replace(self, sparsity=removed)

    def bind(self, layout: Layout) -> KeepKWithFloors:
        """Keep that many in every tensor."""
        if self.shares is None:
            raise InputError(
                'per_layer="owl" is measured while pruning layer by layer. Use it with a method '
                "such as alps, or with layerwise=True (--layerwise)."
            )
        found = [self.shares[name] for name in layout.names]
        low, high = min(found), max(found)
        scale = 2 * self.spread / (high - low) if high > low else 0.0
        raised = [scale * (share - low) for share in found]
        mean = sum(raised) / len(raised)
        densities = [max(0.0, 1 - self.sparsity + own - mean) for own in raised]
        weighed = [
            round(_FINE * density) * count
            for density, count in zip(densities, layout.counts, strict=True)
        ]
        floors = [min(self.min_keep, count) for count in layout.counts]
        return exactly(layout, apportion(self.kept(layout), weighed, layout.counts, floors))
