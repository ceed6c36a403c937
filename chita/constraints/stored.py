"""At most so many bytes for the weights, stored as values and a bit for each place."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import final

from chita.arguments import real_number
from chita.constraints.constraint import Budget
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.keep_k import KeepK
from chita.constraints.sparsity import Sparsity, check_floor, keep
from chita.errors import InputError
from chita.layout import Layout

_MEGA = 10**6


@final
@dataclass(frozen=True, kw_only=True)
class Stored(Budget):
    """Keep as many weights as take at most `megabytes` million bytes.

    A tensor of c weights, k of them kept, takes the k values in its own type and ceil(c / 8) bytes
    for a bit that tells of each weight whether it is kept. Tensors that are not pruned are not
    counted. Where types differ, every value is counted as wide as the widest.

    Fields: `megabytes` above 0; `min_keep`, kept in every tensor at least.

    Raises `InputError` on what is no such number, and on binding where it cannot be met.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((800,),), axes=(Axes(),))
    >>> Stored(megabytes=0.0005).kept(layout)
    100
    """

    megabytes: float
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_keep)
        meaning = "millions of bytes for the weights, above 0"
        if real_number("megabytes", self.megabytes, meaning=meaning) <= 0:
            raise InputError(f"megabytes is {self.megabytes!r}; give {meaning}.")

    def kept(self, layout: Layout) -> int:
        """Return k, at most all weights.

        Raises `InputError` with the smallest number of megabytes that would do.
        """
        fixed = sum(-(-count // 8) for count in layout.counts)
        allowed = int(Fraction(repr(float(self.megabytes))) * _MEGA)
        floors = max(1, sum(min(self.min_keep, count) for count in layout.counts))
        k = (allowed - fixed) // layout.width
        if k < floors:
            least = fixed + floors * layout.width
            raise InputError(
                f"megabytes {self.megabytes} allows {allowed:,} bytes, but a bit for each of "
                f"{layout.size:,} weights takes {fixed:,}, and the {floors} weights that are kept "
                f"at least {floors * layout.width:,}. Give at least {least / _MEGA}."
            )
        return min(k, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> Sparsity:
        """Remove that share, with the same floors."""
        return Sparsity(sparsity=removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepK | KeepKWithFloors:
        """Keep that many weights."""
        return keep(self.kept(layout), layout, self.min_keep)
