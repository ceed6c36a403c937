"""Rows of several tensors side by side, each stored in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import final

import torch
from torch import Tensor

from chita.layout import segments_of
from chita.problem.rows import Rows


@final
class JoinedRows:
    """A = [A₁ A₂ ...]: the weights of one part after those of another, the same n rows.

    Supports are ascending; `gather` takes its index in any order.

    >>> from chita.problem import DenseRows
    >>> half = DenseRows(torch.tensor([[1.0, 2.0]]))
    >>> JoinedRows([half, half]).times(torch.tensor([1.0, 10.0]))
    tensor([11., 22.])
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = list(parts)
        ends = list(accumulate(part.p for part in self._parts))
        self._segments = tuple(
            slice(end - part.p, end) for part, end in zip(self._parts, ends, strict=True)
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._parts[0].n

    @property
    def p(self) -> int:
        """Number of weights."""
        return self._segments[-1].stop

    @property
    def dtype(self) -> torch.dtype:
        """Type of products."""
        return self._parts[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the parts lie."""
        return self._parts[0].device

    @property
    def factored(self) -> bool:
        """Whether all parts are."""
        return all(part.factored for part in self._parts)

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """The sum of the parts' products."""
        if support is None:
            products = [
                part.times(v[segment])
                for part, segment in zip(self._parts, self._segments, strict=True)
            ]
        else:
            products = [part.times(v[at], own) for part, at, own in self._split(support)]
        return torch.stack(products).sum(0) if products else v.new_zeros(self.n)

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """The parts' products, one after another."""
        if support is None:
            return torch.cat([part.transpose_times(z) for part in self._parts])
        found = [part.transpose_times(z, own) for part, _, own in self._split(support)]
        return torch.cat(found) if found else z.new_zeros(0, dtype=self.dtype)

    def gather(self, index: Tensor) -> Tensor:
        """The parts' columns in the order of any index (k,)."""
        if bool((index[1:] < index[:-1]).any()):
            order = index.argsort()
            return self.gather(index[order])[order.argsort()]
        found = [part.gather(own) for part, _, own in self._split(index)]
        if len(found) == 1:
            return found[0]
        return torch.cat(found) if found else index.new_zeros(0, self.n, dtype=self.dtype)

    def squared_norms(self) -> Tensor:
        """Squared norms of the columns (p,)."""
        return torch.cat([part.squared_norms() for part in self._parts])

    def whole_gram(self) -> Tensor | None:
        """The sum of the parts' Gram matrices."""
        if not self.factored:
            return None
        total: Tensor | None = None
        for part in self._parts:
            gram = part.whole_gram()
            if gram is None:
                return None
            total = gram if total is None else total.add_(gram)
        return total

    def _split(self, index: Tensor) -> Iterator[tuple[Rows, slice, Tensor]]:
        """Parts that hold some of an ascending index: where these lie in it, and their own."""
        places = segments_of(index, self._segments)
        for part, segment, at in zip(self._parts, self._segments, places, strict=True):
            if at.stop > at.start:
                yield part, at, index[at] - segment.start
