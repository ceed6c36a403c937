"""The same share removed of every output's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.constraint import Budget
from chita.constraints.groups import KeepKInGroups
from chita.constraints.sparsity import check_floor, check_share, share_kept
from chita.layout import Layout


@final
@dataclass(frozen=True, kw_only=True)
class PerRow(Budget):
    """Remove the share `sparsity` of the weights of every output, as Sun et al., Wanda (2024), do.

    Every row of a linear layer, and every output channel of a convolution, keeps
    floor((1 - sparsity)·inputs), and at least `min_keep` or all it has.
    """

    sparsity: float
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_keep)
        check_share(self.sparsity)

    @property
    def local(self) -> bool:
        """Yes."""
        return True

    def kept(self, layout: Layout) -> int:
        """Return the sum over rows."""
        return sum(int(least.sum()) for _, least in self._rows(layout))

    def on_the_way(self, removed: float, layout: Layout) -> PerRow:
        """A smaller share of every row."""
        return PerRow(sparsity=removed, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepKInGroups:
        """Keep that many in every row."""
        members, least = zip(*self._rows(layout), strict=True)
        return KeepKInGroups(size=layout.size, k=self.kept(layout), members=members, least=least)

    def _rows(self, layout: Layout) -> list[tuple[Tensor, Tensor]]:
        """The members of every tensor's rows, and how many each keeps."""
        found = []
        for _, axes, index in layout.indexed():
            rows = axes.by_output(index)
            width = rows.shape[1]
            count = max(share_kept(self.sparsity, width), min(self.min_keep, width))
            found.append((rows.sort(1).values, torch.full((len(rows),), count)))
        return found
