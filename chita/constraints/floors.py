"""A number of weights to keep over the network, and at least some in every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Constraint, Divisible
from chita.constraints.keep_k import KeepK
from chita.errors import InputError
from chita.layout import Part, segments_of
from chita.linalg.select import largest
from chita.space import SerialSpace, Space


@final
@dataclass(frozen=True, kw_only=True)
class KeepKWithFloors(Divisible):
    """Exactly k of p weights are kept, at least `least[t]` of them in segment t.

    `segments` are consecutive slices that cover the p weights. The masks allowed are the bases of
    a matroid, so the greedy choice in `select` is of largest total score.

    >>> halves = (slice(0, 2), slice(2, 4))
    >>> constraint = KeepKWithFloors(size=4, k=2, segments=halves, least=(1, 1))
    >>> constraint.select(torch.tensor([3.0, 2.0, 1.0, 0.0]))
    tensor([ True, False,  True, False])
    """

    size: int
    k: int
    segments: tuple[slice, ...]
    least: tuple[int, ...]
    space: Space = SerialSpace()

    def __post_init__(self) -> None:
        if not sum(self.least) <= self.k <= self.size:
            raise InputError(
                f"{self.k} of {self.size} weights are to be kept, but {sum(self.least)} at least "
                f"over {len(self.least)} tensors. Keep more, or lower `min_keep`."
            )

    def select(self, values: Tensor) -> Tensor:
        """The floors first, the rest by magnitude alone."""
        mask = self._unbounded.select(values)
        if self._enough(mask):
            return mask
        forced = torch.zeros_like(mask)
        for segment, least in zip(self.segments, self.least, strict=True):
            if least:
                part = values[segment].abs()
                forced[segment] = largest(part, least, self.space.kth_largest(part, least))
        free = (~forced).nonzero().squeeze(1)
        rest = KeepK(size=len(free), k=self.k - sum(self.least), space=self.space)
        forced[free] = rest.select(values[free])
        return forced

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask keeps exactly k, and enough in every segment."""
        return self._unbounded.allows(mask) and self._enough(mask)

    def _enough(self, mask: Tensor) -> bool:
        return all(
            int(mask[segment].count_nonzero()) >= least
            for segment, least in zip(self.segments, self.least, strict=True)
        )

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Those within a segment, and those out of a segment that has more than it needs."""
        ends = torch.tensor([segment.stop for segment in self.segments], device=mask.device)
        leaving, entering = (torch.bucketize(index, ends, right=True) for index in (out, enter))
        spare = torch.tensor(
            [
                int(mask[segment].sum()) > least
                for segment, least in zip(self.segments, self.least, strict=True)
            ],
            device=mask.device,
        )
        return spare[leaving].unsqueeze(1) | (leaving.unsqueeze(1) == entering.unsqueeze(0))

    def restrict(self, index: Tensor, kept: Tensor) -> KeepKWithFloors:
        """What k and the floors still ask of the named weights, at most all of a segment."""
        segments = segments_of(index, self.segments)
        used = segments_of(kept, self.segments)
        least = tuple(
            min(max(0, least - (there.stop - there.start)), here.stop - here.start)
            for least, there, here in zip(self.least, used, segments, strict=True)
        )
        return KeepKWithFloors(
            size=len(index),
            k=min(len(index), self.k - len(kept)),
            segments=segments,
            least=least,
            space=self.space,
        )

    def split(self, parts: Sequence[Part]) -> list[Constraint]:
        """The same share of every part, and of a segment's floor what the part has of it."""
        sizes = [len(part) for part in parts]
        segments = [segments_of(part, self.segments) for part in parts]
        none = [0] * len(parts)
        floors = []
        for t, least in enumerate(self.least):
            counts = [own[t].stop - own[t].start for own in segments]
            floors.append(apportion(least, counts, most=counts, least=none))
        needed = [sum(own) for own in zip(*floors, strict=True)]
        shares = apportion(self.k, sizes, most=sizes, least=needed)
        return [
            KeepKWithFloors(
                size=sizes[i],
                k=shares[i],
                segments=segments[i],
                least=tuple(own[i] for own in floors),
                space=self.space,
            )
            for i in range(len(parts))
        ]

    @property
    def _unbounded(self) -> KeepK:
        return KeepK(size=self.size, k=self.k, space=self.space)
