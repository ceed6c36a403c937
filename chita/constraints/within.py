"""Another constraint, within a mask that is given: what is pruned stays pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.constraint import Constraint
from chita.errors import InputError


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Within(Constraint):
    """The masks that `constraint` allows and that keep nothing outside `mask` (p,).

    Exact wherever `constraint.restrict` is. Raises `InputError` on sizes that differ.

    >>> from chita.constraints.keep_k import KeepK
    >>> within = Within(constraint=KeepK(size=3, k=1), mask=torch.tensor([True, True, False]))
    >>> within.select(torch.tensor([1.0, 2.0, 3.0]))
    tensor([False,  True, False])
    """

    constraint: Constraint
    mask: Tensor

    def __post_init__(self) -> None:
        if len(self.mask) != self.constraint.size:
            raise InputError(
                f"A mask of {len(self.mask)} weights does not belong to a constraint on "
                f"{self.constraint.size}."
            )

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of weights p."""
        return len(self.mask)

    def select(self, scores: Tensor) -> Tensor:
        """The choice of `constraint` restricted to the mask."""
        index = self.mask.to(scores.device).nonzero().squeeze(1)
        inside = self.constraint.restrict(index, index[:0]).select(scores[index])
        return torch.zeros_like(scores, dtype=torch.bool).index_copy_(0, index, inside)

    def allows(self, mask: Tensor) -> bool:
        """Whether `constraint` allows the mask, and it keeps nothing outside."""
        outside = mask & ~self.mask.to(mask.device)
        return self.constraint.allows(mask) and not bool(outside.any())

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Those that `constraint` allows, of weights inside."""
        inside = self.mask.to(mask.device)[enter]
        return self.constraint.swaps(mask, out, enter) & inside.unsqueeze(0)

    def restrict(self, index: Tensor, kept: Tensor) -> Within:
        """The same of the named weights."""
        return Within(
            constraint=self.constraint.restrict(index, kept),
            mask=self.mask[index.to(self.mask.device)],
        )
