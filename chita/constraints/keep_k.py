"""A number of weights to keep, over the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Constraint, Divisible
from chita.errors import InputError
from chita.layout import Part
from chita.linalg.select import largest
from chita.space import SerialSpace, Space


@final
@dataclass(frozen=True, kw_only=True)
class KeepK(Divisible):
    """Exactly k of p weights are kept, 0 <= k <= p.

    >>> import torch
    >>> KeepK(size=3, k=1).select(torch.tensor([1.0, -5.0, 5.0]))
    tensor([False,  True, False])
    """

    size: int
    k: int
    space: Space = SerialSpace()

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.size:
            raise InputError(f"{self.k} weights of {self.size} cannot be kept.")

    def select(self, values: Tensor) -> Tensor:
        """The k values of largest magnitude, by selection."""
        if self.k == 0:
            return torch.zeros_like(values, dtype=torch.bool)
        sizes = values.abs()
        return largest(sizes, self.k, self.space.kth_largest(sizes, self.k))

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask keeps exactly k."""
        return len(mask) == self.size and int(self.space.sum(mask)) == self.k

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """All of them."""
        return torch.ones(len(out), len(enter), dtype=torch.bool, device=mask.device)

    def restrict(self, index: Tensor, kept: Tensor) -> KeepK:
        """What is left of k for the named weights, or all of them where that is fewer."""
        return KeepK(size=len(index), k=min(len(index), self.k - len(kept)), space=self.space)

    def split(self, parts: Sequence[Part]) -> list[Constraint]:
        """The same share of every part."""
        sizes = [len(part) for part in parts]
        shares = apportion(self.k, sizes, most=sizes, least=[0] * len(sizes))
        return [
            KeepK(size=size, k=k, space=self.space) for size, k in zip(sizes, shares, strict=True)
        ]
