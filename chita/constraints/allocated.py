"""A budget over the network in which every tensor keeps at least what was allocated to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from chita.constraints.constraint import Budget, Constraint
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.flops import Flops, Weights
from chita.constraints.keep_k import KeepK
from chita.layout import Layout
from chita.options import option

Total = Weights | Flops
"""What limits all weights together, wherever they are."""


@final
@dataclass(frozen=True, kw_only=True)
class Allocated(Budget):
    """Keep what `total` keeps, and at least `quotas[t]` weights of tensor t of the layout.

    What the quotas leave of the budget goes to the largest weights, whatever their tensor.

    >>> from chita.constraints.sparsity import Nonzeros
    >>> from chita.layout import Axes
    >>> layout = Layout(names=("a", "b"), shapes=((2,), (2,)), axes=(Axes(), Axes()))
    >>> Allocated(total=Nonzeros(3), quotas=(1, 2)).bind(layout).least
    (1, 2)
    """

    total: Total = option(help="What all weights together are held to.")
    quotas: tuple[int, ...] = option(help="Weights kept at least of every tensor, in order.")

    @property
    def counts_operations(self) -> bool:
        """As the whole."""
        return self.total.counts_operations

    def kept(self, layout: Layout) -> int:
        """Return what the whole keeps."""
        return self.total.kept(layout)

    def removed(self, layout: Layout) -> float:
        """Return what the whole removes."""
        return self.total.removed(layout)

    def on_the_way(self, removed: float, layout: Layout) -> Allocated:
        """The whole and every tensor on their way."""
        final = self.removed(layout)
        part = min(1.0, removed / final) if final else 0.0
        quotas = tuple(
            max(quota, int(count - part * (count - quota)))
            for quota, count in zip(self.quotas, layout.counts, strict=True)
        )
        return Allocated(total=self.total.on_the_way(removed, layout), quotas=quotas)

    def bind(self, layout: Layout) -> Constraint:
        """Both."""
        bound = self.total.bind(layout)
        if isinstance(bound, KeepK):
            return KeepKWithFloors(
                size=bound.size, k=bound.k, segments=layout.segments, least=self.quotas
            )
        return replace(bound, least=tuple(map(max, bound.least, self.quotas)))
