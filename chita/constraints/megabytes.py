"""At most so many bytes for the weights, stored as values and a bit for each place."""

from __future__ import annotations

from dataclasses import KW_ONLY
from fractions import Fraction
from typing import final

from chita.budget_options import BudgetOptions
from chita.constraints.sparsity import WeightBudget
from chita.errors import InputError
from chita.layout import Layout
from chita.options import shared

_MEGA = 10**6


@final
class Megabytes(WeightBudget, kw_only=False):
    """A size of the kept weights: as many as take at most `megabytes` million bytes.

    A tensor of c weights, k of them kept, takes the k values in its own type and ceil(c / 8) bytes
    for one bit per weight, which is 1 where it is kept. Tensors that are not pruned do not count.
    If types differ, every value counts as wide as the widest.

    Raises `InputError` on binding if even the fewest weights take more.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((800,),), axes=(Axes(),))
    >>> Megabytes(0.0005).kept(layout)
    100
    """

    megabytes: float = shared(BudgetOptions, "megabytes", required=True)
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    def kept(self, layout: Layout) -> int:
        """Return k, at most all weights.

        Raises `InputError` with the smallest number of megabytes that would do.
        """
        fixed = sum(-(-count // 8) for count in layout.counts)
        # Exact: in binary 0.0157 million bytes come to 15,699.999..., one byte less.
        allowed = int(Fraction(repr(self.megabytes)) * _MEGA)
        floors = max(1, sum(layout.floors(self.min_keep)))
        k = (allowed - fixed) // layout.width
        if k < floors:
            least = fixed + floors * layout.width
            raise InputError(
                f"`megabytes` {self.megabytes} allows {allowed:,} bytes, but a bit for each of "
                f"{layout.size:,} weights takes {fixed:,}, and the {floors} weights that are kept "
                f"at least {floors * layout.width:,}. Give at least {least / _MEGA}."
            )
        return min(k, layout.size)
