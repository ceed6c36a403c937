"""A number of weights to keep over the network, and at least some in every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Constraint, Divisible, check_floors, floors_left
from chita.layout import WeightIndex, counts_in, lengths, owners, segments_of
from chita.linalg.select import filled, largest


@final
@dataclass(frozen=True, kw_only=True)
class KeepK(Divisible):
    """The masks that keep exactly k of p weights, at least `least[t]` of them in segment t.

    0 <= k <= p. `segments` are consecutive slices that cover the p weights; without floors they may
    be left out. The masks allowed are the bases of a matroid, so the greedy choice in `select` is
    of largest total score.

    >>> import torch
    >>> values = torch.tensor([3.0, 2.0, -1.0, 0.0])
    >>> KeepK(size=4, k=2).select(values)
    tensor([ True,  True, False, False])
    >>> KeepK(size=4, k=2, segments=(slice(0, 2), slice(2, 4)), least=(1, 1)).select(values)
    tensor([ True, False,  True, False])
    """

    size: int
    k: int
    segments: tuple[slice, ...] = ()
    least: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_floors(self.size, self.k, sum(self.least), f"{len(self.least)} tensors")

    def select(self, values: Tensor) -> Tensor:
        """Return the floors and the largest of the other weights."""
        sizes = values.abs()
        # The k largest are of largest total over all masks of k. If they meet the floors, which is
        # the usual case, no allowed mask is better.
        mask = largest(sizes, self.k)
        if self._enough(mask):
            return mask
        # Else the floors bind. An allowed mask without one of the least[t] largest of segment t can
        # swap it in for a smaller one of t, so these are in a best mask (exchange property of a
        # matroid). With them, any choice of the rest is allowed: the largest are best.
        forced = torch.zeros_like(mask)
        for segment, least in zip(self.segments, self.least, strict=True):
            forced[segment] = largest(sizes[segment], least)
        return filled(forced, sizes, self.k)

    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask keeps exactly k, and enough in every segment."""
        right = len(mask) == self.size and int(mask.count_nonzero()) == self.k
        return right and self._enough(mask)

    def _enough(self, mask: Tensor) -> bool:
        kept = zip(self.segments, self.least, strict=True)
        return all(int(mask[segment].count_nonzero()) >= least for segment, least in kept if least)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return those within a segment, and out of a segment that has more than it needs."""
        if not any(self.least):
            return torch.ones(len(out), len(enter), dtype=torch.bool, device=mask.device)
        leaving, entering = owners(out, self.segments), owners(enter, self.segments)
        counts = zip(counts_in(mask, self.segments), self.least, strict=True)
        spare = torch.tensor([count > least for count, least in counts], device=mask.device)
        return spare[leaving].unsqueeze(1) | (leaving.unsqueeze(1) == entering.unsqueeze(0))

    def restrict(self, index: Tensor, kept: Tensor) -> KeepK:
        """Return what k and the floors still ask of the named weights, at most all of a segment."""
        segments = segments_of(index, self.segments)
        used = lengths(segments_of(kept, self.segments))
        least = floors_left(self.least, used, lengths(segments))
        k = min(len(index), self.k - len(kept))
        return KeepK(size=len(index), k=k, segments=segments, least=least)

    def split(self, parts: Sequence[WeightIndex]) -> list[Constraint]:
        """Give every part the same share of k, and of a segment's floor what it has of it."""
        sizes = [len(part) for part in parts]
        segments = [segments_of(part, self.segments) for part in parts]
        floors = []
        for t, floor in enumerate(self.least):
            counts = [own[t].stop - own[t].start for own in segments]
            floors.append(apportion(floor, counts, most=counts, least=[0] * len(parts)))
        least = [tuple(own[i] for own in floors) for i in range(len(parts))]
        # A part's share of k is at least the sum of its floors, or it could not be met.
        shares = apportion(self.k, sizes, most=sizes, least=list(map(sum, least)))
        found = zip(sizes, shares, segments, least, strict=True)
        return [KeepK(size=p, k=k, segments=at, least=own) for p, k, at, own in found]
