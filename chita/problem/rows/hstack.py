"""Rows of several tensors side by side, each stored in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, final

import torch
from torch import Tensor

from chita.layout import segments_of, slices
from chita.problem.rows.dense import gathered
from chita.problem.rows.rows import Rows


@final
class HStackRows(Rows):
    """A = [A₁ A₂ ...]: the weights of one part after those of another, the same n rows.

    Supports are ascending; `gather` takes its index in any order.

    >>> from chita.problem import DenseRows
    >>> half = DenseRows(torch.tensor([[1.0, 2.0]]))
    >>> HStackRows([half, half]).times(torch.tensor([1.0, 10.0]))
    tensor([11., 22.])
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = list(parts)
        self._segments = slices([part.p for part in self._parts])
        first, factored = self._parts[0], all(part.factored for part in self._parts)
        p, formed = self._segments[-1].stop, any(part.formed for part in self._parts)
        super().__init__(first.n, p, first.dtype, first.device, factored=factored, formed=formed)

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return the sum of the parts' products."""
        products = [part.times(v[at], own) for part, at, own in self._split(support)]
        return torch.stack(products).sum(0) if products else v.new_zeros(self.n)

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return the parts' products, one after another."""
        found = [part.transpose_times(z, own) for part, _, own in self._split(support)]
        return torch.cat(found) if found else z.new_zeros(0, dtype=self.dtype)

    def gather(self, index: Tensor) -> Tensor:
        """Return the parts' columns in the order of any index (k,)."""
        if bool((index[1:] < index[:-1]).any()):
            # Parts need an ascending index; the inverse order brings the columns back to this one.
            order = index.argsort()
            return self.gather(index[order])[order.argsort()]
        found = [part.gather(own) for part, _, own in self._split(index)]
        if len(found) == 1:
            return found[0]
        return torch.cat(found) if found else index.new_zeros(0, self.n, dtype=self.dtype)

    def part(self, segment: slice) -> Rows:
        """Return the columns of consecutive weights: of one part, or several joined."""
        parts = []
        for part, own in zip(self._parts, self._segments, strict=True):
            start, stop = max(segment.start, own.start), min(segment.stop, own.stop)
            if start < stop:
                parts.append(part.part(slice(start - own.start, stop - own.start)))
        if not parts:
            return self._parts[0].part(slice(0, 0))
        return parts[0] if len(parts) == 1 else HStackRows(parts)

    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b, joined from those of the rows that are joined here."""
        counts = self._counts(count)
        if counts is None:
            return gathered(self).times_each(v, count)
        each = zip(self._parts, self._segments, counts, strict=True)
        return torch.cat([part.times_each(v[at], own) for part, at, own in each])

    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b, one after another."""
        counts = self._counts(len(z))
        if counts is None:
            return gathered(self).transpose_times_each(z)
        each = zip(self._parts, z.split(counts), strict=True)
        return torch.cat([part.transpose_times_each(own) for part, own in each])

    def _counts(self, count: int) -> list[int] | None:
        """Return how many equal parts lie in each of the rows, None where one is in two."""
        width = self.p // count
        if any(part.p % width for part in self._parts):
            return None
        return [part.p // width for part in self._parts]

    def squared_norms(self) -> Tensor:
        """Return squared norms of the columns (p,)."""
        return torch.cat([part.squared_norms() for part in self._parts])

    def whole_gram(self) -> Tensor | None:
        """Return the sum of the parts' Gram matrices."""
        if not self.factored:
            return None
        total: Tensor | None = None
        for part in self._parts:
            gram = part.whole_gram()
            if gram is None:
                return None
            total = gram if total is None else total.add_(gram)
        return total

    def _split(self, index: Tensor | None) -> Iterator[tuple[Rows, slice, Any]]:
        """Yield parts that hold some of an ascending index: their places in it, and their own.

        Without an index yield every part, with its places among all weights and None.
        """
        if index is None:
            yield from zip(self._parts, self._segments, repeat(None))
            return
        places = segments_of(index, self._segments)
        for part, segment, at in zip(self._parts, self._segments, places, strict=True):
            if at.stop > at.start:
                yield part, at, index[at] - segment.start
