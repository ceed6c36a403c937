"""The same share removed of every output's weights."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from chita.constraints.groups import KeepKInGroups
from chita.constraints.sparsity import ShareBudget, share_kept
from chita.layout import Layout
from chita.options import option

OUTPUTS = "outputs"
"""The word for this budget."""


@final
class PerOutput(ShareBudget, kw_only=False):
    """A share to remove of the weights of every output, as Sun et al., Wanda (2024), do.

    Every row of a linear layer, and every output channel of a convolution, keeps
    floor((1 - sparsity)·inputs), and at least `min_keep` or all it has.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> PerOutput(0.5).bind(layout).select(torch.tensor([9.0, 8.0, 1.0, 2.0]))
    tensor([ True, False, False,  True])
    """

    local: ClassVar[bool] = True

    _: KW_ONLY
    min_keep: int = option(1, "Weights kept at least of every output.", at_least=0)

    @property
    def words(self) -> dict[str, Any]:
        """Rows, the share and the floors."""
        return {"per_layer": OUTPUTS, "sparsity": self.sparsity, "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return the sum over rows."""
        return sum(int(least.sum()) for _, least in self._rows(layout))

    def bind(self, layout: Layout) -> KeepKInGroups:
        """Keep that many in every row."""
        members, least = zip(*self._rows(layout), strict=True)
        return KeepKInGroups(size=layout.size, k=self.kept(layout), members=members, least=least)

    def _rows(self, layout: Layout) -> list[tuple[Tensor, Tensor]]:
        """Return the members of every tensor's rows, and how many each keeps."""
        layout.check_axes()
        found = []
        for _, axes, index in layout.indexed():
            rows = axes.by_output(index)
            width = rows.shape[1]
            count = max(share_kept(self.sparsity, width), min(self.min_keep, width))
            found.append((rows, torch.full((len(rows),), count, dtype=torch.long, device="cpu")))
        return found
