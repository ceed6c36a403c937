"""A share of every layer by its outliers: less is removed where few weights do most of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, final

from chita.budget_options import BudgetOptions
from chita.constraints.apportion import apportion
from chita.constraints.keep_k import KeepK
from chita.constraints.per_layer import exactly
from chita.constraints.sparsity import ShareBudget
from chita.errors import InputError
from chita.layout import Layout
from chita.options import option, shared

OUTLIERS = "owl"
"""The word for this budget."""

_FINE = 10**9  # steps of a density, which is apportioned in whole numbers


@final
class ByOutliers(ShareBudget, kw_only=False):
    """A share to remove over the network, of every tensor by its share of outliers.

    With D_t the share of outliers of tensor t, mapped linearly so that the smallest is 0 and the
    largest 2·`spread`, its density is proportional to 1 - sparsity + D_t - mean D. So sparsities
    spread by `spread` to both sides at most, and counts are exact in sum.

    Yin et al., Outlier weighed layerwise sparsity (2024), equations 1 to 3, with their λ = 0.08 as
    `spread`; they measure D by transformer block. Departure: rounding makes the whole count exact.

    Raises `InputError` on binding before `shares` are measured (`chita.pruning.layer_matrices`).

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("a", "b"), shapes=((100,), (100,)), axes=(Axes(), Axes()))
    >>> ByOutliers(0.5, shares={"a": 0.01, "b": 0.0}).bind(layout).least
    (58, 42)
    """

    _: KW_ONLY
    shares: Mapping[str, float] | None = option(
        None, "D, the share of outliers by tensor.", unset="measured while pruning layer by layer"
    )
    spread: float = option(
        0.08,
        "By how much the sparsity of a tensor differs from the whole at most.",
        at_least=0,
        at_most=0.5,
    )
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """Outliers, the share and the floors; none where `shares` or `spread` is given."""
        if replace(self, shares=None, spread=ByOutliers.spread) != self:
            return {}
        return {"per_layer": OUTLIERS, "sparsity": self.sparsity, "min_keep": self.min_keep}

    def bind(self, layout: Layout) -> KeepK:
        """Keep that many in every tensor."""
        if self.shares is None:
            raise InputError(
                "Shares of outliers are measured while pruning layer by layer. Use a solver such "
                "as alps, or `layerwise`."
            )
        found = [self.shares[name] for name in layout.names]
        # D_t ↦ 2·spread·(D_t - min D)/(max D - min D); equal shares of outliers say nothing.
        low, high = min(found), max(found)
        scale = 2 * self.spread / (high - low) if high > low else 0.0
        raised = [scale * (share - low) for share in found]
        mean = sum(raised) / len(raised)
        densities = [max(0.0, 1 - self.sparsity + own - mean) for own in raised]
        # `apportion` divides whole numbers exactly: densities become billionths.
        weighed = [
            round(_FINE * density) * count
            for density, count in zip(densities, layout.counts, strict=True)
        ]
        floors = layout.floors(self.min_keep)
        return exactly(layout, apportion(self.kept(layout), weighed, layout.counts, floors))
