"""At most so many bytes for the weights, stored as values and a bit for each place."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Any, final

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.keep_k import KeepK
from chita.constraints.sparsity import Sparsity, keep
from chita.errors import InputError
from chita.layout import Layout
from chita.options import shared

_MEGA = 10**6


@final
@dataclass(frozen=True)
class Megabytes(Budget):
    """Keep as many weights as take at most `megabytes` million bytes.

    A tensor of c weights, k of them kept, takes the k values in its own type and ceil(c / 8) bytes
    for one bit per weight, which is 1 where it is kept. Tensors that are not pruned do not count.
    Where types differ, every value counts as wide as the widest.

    Raises `InputError` on binding where even the fewest weights take more.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((800,),), axes=(Axes(),))
    >>> Megabytes(0.0005).kept(layout)
    100
    """

    megabytes: float = shared(BudgetOptions, "megabytes", required=True)
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """The bytes and the floors."""
        return {"megabytes": self.megabytes, "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return k, at most all weights.

        Raises `InputError` with the smallest number of megabytes that would do.
        """
        fixed = sum(-(-count // 8) for count in layout.counts)
        allowed = int(Fraction(repr(self.megabytes)) * _MEGA)
        floors = max(1, sum(min(self.min_keep, count) for count in layout.counts))
        k = (allowed - fixed) // layout.width
        if k < floors:
            least = fixed + floors * layout.width
            raise InputError(
                f"`megabytes` {self.megabytes} allows {allowed:,} bytes, but a bit for each of "
                f"{layout.size:,} weights takes {fixed:,}, and the {floors} weights that are kept "
                f"at least {floors * layout.width:,}. Give at least {least / _MEGA}."
            )
        return min(k, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep that many weights."""
        return keep(self.kept(layout), layout, self.min_keep)
