"""Another constraint, within a mask that is given: pruned weights stay pruned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def _index(self) -> Tensor:
        return self.mask.nonzero().squeeze(1)

    @cached_property
    def _inside(self) -> Constraint:
        """The constraint on only the weights of the mask."""
        # Nothing outside is kept, so that the whole budget is for the weights inside.
        return self.constraint.restrict(self._index, self._index[:0])

    def select(self, values: Tensor) -> Tensor:
        """Return the choice of `constraint` restricted to the mask."""
        index = self._index.to(values.device)
        chosen = torch.zeros_like(values, dtype=torch.bool)
        return chosen.index_copy_(0, index, self._inside.select(values[index]))

    def ceiling(self, values: Tensor, mask: Tensor) -> float:
        """Return that of `constraint` restricted to the mask."""
        index = self._index.to(values.device)
        return self._inside.ceiling(values[index], mask[index])

    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask keeps nothing outside, and is allowed inside."""
        outside = mask & ~self.mask.to(mask.device)
        inside = mask[self._index.to(mask.device)]
        return not bool(outside.any()) and self._inside.allows(inside)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return those that `constraint` allows among the weights inside."""
        index = self._index.to(mask.device)
        inside = self.mask.to(mask.device)[enter]
        allowed = torch.zeros(len(out), len(enter), dtype=torch.bool, device=mask.device)
        # `swaps` of the constraint inside asks for positions there, of which the index is sorted.
        places = (torch.searchsorted(index, which) for which in (out, enter[inside]))
        allowed[:, inside] = self._inside.swaps(mask[index], *places)
        return allowed

    def restrict(self, index: Tensor, kept: Tensor) -> Within:
        """Return the same of the named weights."""
        return Within(
            constraint=self.constraint.restrict(index, kept),
            mask=self.mask[index.to(self.mask.device)],
        )
