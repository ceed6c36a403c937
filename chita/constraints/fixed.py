"""One mask that is given, so that only the weights are left to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.constraint import Budget, Constraint, Divisible
from chita.errors import InputError
from chita.layout import Layout, WeightIndex, as_index
from chita.options import option


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Exactly(Divisible):
    """The one mask (p,) that is allowed.

    >>> Exactly(mask=torch.tensor([True, False])).select(torch.tensor([0.0, 9.0]))
    tensor([ True, False])
    """

    mask: Tensor

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of weights p."""
        return len(self.mask)

    def select(self, values: Tensor) -> Tensor:
        """Return the mask, whatever the values."""
        return self.mask.to(values.device, copy=True)

    def allows(self, mask: Tensor) -> bool:
        """Return whether this is the mask."""
        return torch.equal(mask, self.mask.to(mask.device))

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Allow none: there is one mask."""
        return torch.zeros(len(out), len(enter), dtype=torch.bool, device=mask.device)

    def restrict(self, index: Tensor, kept: Tensor) -> Exactly:
        """Return the mask of the named weights."""
        return Exactly(mask=self.mask[index.to(self.mask.device)])

    def split(self, parts: Sequence[WeightIndex]) -> list[Constraint]:
        """Return the mask of every part."""
        indices = map(as_index, parts)
        return [self.restrict(index, index[:0]) for index in indices]


@final
class FixedMasks(Budget, kw_only=False, eq=False):
    """Masks that are given by name, one for every tensor of the layout.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((3,),), axes=(Axes(),))
    >>> FixedMasks({"w": torch.tensor([True, False, True])}).kept(layout)
    2
    """

    masks: Mapping[str, Tensor] = option(help="Boolean masks by tensor, True where it is kept.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(bool(mask.any()) for mask in self.masks.values()):
            raise InputError("The masks keep no weight at all; at least one must be kept.")

    def kept(self, layout: Layout) -> int:
        """Return the number of weights that the masks keep."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    def on_the_way(self, removed: float, layout: Layout) -> Budget:
        """Raise `InputError`: masks that are given are met at once."""
        raise InputError("Masks that are given are met in one stage. Leave `stages` out.")

    def bind(self, layout: Layout) -> Exactly:
        """Return the masks as one."""
        return Exactly(mask=layout.flatten(self.masks).bool())
