"""A part of the samples of data, each with the same chance."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from chita import nested
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples, as_examples, cut


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Some of the samples that are read when they are asked for, by their places in `index`."""

    samples: Indexed
    index: Tensor

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.index)

    def take(self, index: Tensor) -> Examples:
        """Return the samples named by index (k,), in that order."""
        return self.samples.take(self.index[index])

    def batches(self, size: int) -> Iterator[Any]:
        """Iterate over consecutive batches of at most `size` samples."""
        for index in self.index.split(size):
            yield from self.samples.take(index).batches(size)


def drawn(data: Data, count: int, seed: int) -> tuple[Data, int]:
    """Return `count` samples of the data in their order, and how many there are.

    Every sample has the same chance, and one seed gives the same samples. Data of no more samples
    are returned as they are. Samples by index are not read here; batches are read once, by a
    generator of their own, and what is drawn of them is kept.
    """
    indexed = as_examples(data) or data
    generator = torch.Generator().manual_seed(seed % 2**63)
    if not isinstance(indexed, Indexed):
        return _of_batches(data, count, generator)
    total = len(indexed)
    if total <= count:
        return indexed, total
    index = torch.randperm(total, generator=generator, device="cpu")[:count].sort().values
    whole = isinstance(indexed, Examples)
    return indexed.take(index) if whole else Drawn(samples=indexed, index=index), total


def _of_batches(data: Data, count: int, generator: torch.Generator) -> tuple[Data, int]:
    """Keep the samples of the lowest of random numbers, one drawn for each."""
    kept: list[tuple[float, int, Any]] = []
    total = 0
    with torch.random.fork_rng(devices=[]):  # by which a loader may shuffle
        torch.default_generator.manual_seed(generator.initial_seed())
        for batch in batches_of(data, 1):
            for sample in cut(batch, 1):
                number = -float(
                    torch.rand((), generator=generator, dtype=torch.float64, device="cpu")
                )
                if len(kept) < count or number > kept[0][0]:
                    own = nested.copied(sample)  # no view of its batch
                    add = heapq.heappush if len(kept) < count else heapq.heapreplace
                    add(kept, (number, total, own))
                total += 1
    if total <= count:
        return data, total
    return Examples(*(sample for _, _, sample in sorted(kept, key=lambda own: own[1]))), total
