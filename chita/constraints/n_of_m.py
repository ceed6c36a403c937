"""N kept of every M neighbours."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget
from chita.constraints.groups import KeepKInGroups
from chita.constraints.sparsity import share_kept
from chita.constraints.tiles import tiles
from chita.errors import InputError
from chita.layout import Layout
from chita.options import option, shared


@final
class NofM(Budget, kw_only=False):
    """A pattern N:M such as 2:4: of every `m` neighbours `n` are **kept**.

    Tools differ here: what this library and NVIDIA call 1:4 keeps one weight of four, some call
    it 3:4. Only where N is half of M do all agree.

    Neighbours follow each other along the inputs, at one output, one kernel position and within
    one group of a convolution: the direction that sparse matrix units read.

    Stages before the last keep at least N of each M and, over the network, as many more as their
    share says, wherever these are worth most.

    Raises `InputError` if n exceeds m, and on binding if m does not divide the inputs.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((1, 4),), axes=(Axes(),))
    >>> NofM(2, 4).bind(layout).select(torch.tensor([1.0, 4.0, 3.0, 2.0]))
    tensor([False,  True,  True, False])
    """

    local: ClassVar[bool] = True

    n: int = option(help="Weights kept of every m neighbours.", at_least=1)
    m: int = option(help="Neighbours, of which n are kept.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise InputError(f"{self} keeps more weights than there are. Write it as N:M, N <= M.")

    def __str__(self) -> str:
        """Return N:M."""
        return f"{self.n}:{self.m}"

    @property
    def words(self) -> dict[str, Any]:
        """The pattern."""
        return {"pattern": str(self)}

    def kept(self, layout: Layout) -> int:
        """Return p·n/m."""
        return layout.size // self.m * self.n

    def on_the_way(self, removed: float, layout: Layout) -> AtLeastNofM:
        """Return the budget that removes a share over the network, and keeps at least n of m."""
        return AtLeastNofM(pattern=self, sparsity=removed)

    def bind(self, layout: Layout) -> KeepKInGroups:
        """Keep n in every group."""
        return self.grouped(layout, self.kept(layout))

    def grouped(self, layout: Layout, k: int) -> KeepKInGroups:
        """Keep k in all, at least n of them in every group.

        Raises `InputError` that lists the layers which m does not divide.
        """
        needs = f"{self} needs a number of inputs that {self.m} divides"
        members = tiles(layout, 1, self.m, needs)
        least = tuple(
            torch.full((len(groups),), self.n, dtype=torch.long, device="cpu") for groups in members
        )
        return KeepKInGroups(size=layout.size, k=k, members=tuple(members), least=least)


@final
class AtLeastNofM(Budget):
    """A share to remove over the network, with at least N of every M kept.

    What the groups leave of the budget goes to the largest weights: a stage on the way to N:M.
    """

    pattern: NofM = option(help="N and M.")
    sparsity: float = shared(BudgetOptions, "sparsity", required=True)

    def kept(self, layout: Layout) -> int:
        """Return floor((1 - sparsity) p), or what the pattern keeps if that is more."""
        return max(self.pattern.kept(layout), share_kept(self.sparsity, layout.size))

    def on_the_way(self, removed: float, layout: Layout) -> AtLeastNofM:
        """Return the same with another share."""
        return AtLeastNofM(pattern=self.pattern, sparsity=removed)

    def bind(self, layout: Layout) -> KeepKInGroups:
        """Keep that many, n in every group at least."""
        return self.pattern.grouped(layout, self.kept(layout))
