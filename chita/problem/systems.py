"""Many small systems at a time: batches of similar size, padding, answers that still hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from chita.linalg.cholesky import cholesky


class Answer(NamedTuple):
    """The last question to many systems over p weights, and their steps.

    Fields: `ridge`; `kept` (p,), the support; `residual` (B, m), a row for each system; `step`
    (p,), zero off the support.
    """

    ridge: float
    kept: Tensor
    residual: Tensor
    step: Tensor

    def holds(
        self, ridge: float, kept: Tensor, residual: Tensor, system_of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return which systems (B,) are asked the same again.

        `system_of` names the system of every weight of an index.
        """
        same = (self.residual == residual).all(1) & (self.ridge == ridge)
        same[system_of((self.kept != kept).nonzero().squeeze(1))] = False
        return same


def padded(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places (b, m) of the members of b systems, and which are there.

    System i has `counts[i]` >= 1 members from `starts[i]` on, m is the largest count, and the last
    member stands again for what a system lacks.

    >>> padded(torch.tensor([0, 2]), torch.tensor([2, 1]))[0]
    tensor([[0, 1],
            [2, 2]])
    """
    rank = torch.arange(int(counts.max()), device=counts.device)
    last = counts.unsqueeze(1) - 1
    return starts.unsqueeze(1) + rank.minimum(last), rank <= last


def padded_factors(systems: Tensor, there: Tensor, added: Tensor) -> Tensor:
    """Return the lower factors of systems (b, m, m), in place, with `added` (b, m) on the diagonal.

    Rows and columns of what a system lacks are zero: a one on the diagonal makes it a system of
    its own, whose solution is zero.
    """
    systems.diagonal(dim1=1, dim2=2).add_(added.to(systems).masked_fill_(~there, 1.0))
    return cholesky(systems)


def similar(
    counts: Tensor, asked: Tensor, entries: Callable[[int], int], room: float
) -> Iterator[Tensor]:
    """Cut systems into batches of similar size, from the smallest on.

    Args:
        counts: the size of every system, (B,).
        asked: which are asked for, an index.
        entries: of the memory that a system of some size takes.
        room: entries of a batch at most, unless a single system has more.
    """
    asked = asked[counts[asked].argsort(stable=True)]
    sizes = counts[asked].tolist()
    start = 0
    while start < len(asked):
        stop, widest = start + 1, sizes[start] + sizes[start] // 8 + 8
        while (
            stop < len(asked)
            and sizes[stop] <= widest
            and (stop + 1 - start) * entries(sizes[stop]) <= room
        ):
            stop += 1
        yield asked[start:stop]
        start = stop
