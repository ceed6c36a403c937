"""Tensors that belong to a batch as a whole, such as a mask of attention, found among batches.

The first size of such a tensor may be the number of samples by chance, in one batch or in all.
Other batches then show what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any

from torch import Tensor

from chita import nested

_TARGETS = ("labels", "label", "targets", "target", "y")


def marked(batches: Iterable[Any]) -> Iterator[Any]:
    """Iterate over batches with their shared tensors marked as `nested.Shared`.

    A tensor is shared if its first size is not that of the others in some batch before or in this
    one, or if the same object is in two batches that follow one another. Of batches in which there
    could be such a tensor, the second one is read before the first is given.
    """
    known, iterator = _Known(), iter(batches)
    begun = list(islice(iterator, 1))
    if begun and len(list(nested.tensors(begun[0]))) > 2 - isinstance(begun[0], Mapping):
        begun += islice(iterator, 1)
    for batch in begun:
        known.see(batch)
    yield from map(known.mark, begun)
    for batch in iterator:
        known.see(batch)
        yield known.mark(batch)


def all_marked(batches: Iterable[Any]) -> list[Any]:
    """Return batches as `marked` gives them, each told by those after it, too."""
    known, kept = _Known(), list(batches)
    for batch in kept:
        known.see(batch)
    return [known.mark(batch) for batch in kept]


class _Known:
    """The places of shared tensors, in batches of as many tensors."""

    def __init__(self) -> None:
        self._places: set[tuple[int, int]] = set()
        self._last: list[Tensor] = []

    def see(self, batch: Any) -> None:
        """Learn from a batch."""
        found = list(nested.tensors(batch))
        if not found:
            return
        sizes = [len(tensor) if tensor.ndim else None for tensor in found]
        ((usual, _),) = Counter(sizes).most_common(1)
        places = {i for i, size in enumerate(sizes) if size != usual}
        if len(self._last) == len(found):
            same = {i for i, tensor in enumerate(found) if tensor is self._last[i]}
            if len(same) < len(found):  # or else it is one batch given twice
                targets = _targets(batch)
                places |= {i for i in same if _tells(found[i], targets)}
        self._places |= {(len(found), place) for place in places}
        self._last = found

    def mark(self, batch: Any) -> Any:
        """Return a batch with its shared tensors marked, itself if it is not cut anyway."""
        total = len(list(nested.tensors(batch)))
        if not self._places or nested.count(batch) is None:
            return batch
        place = count()

        def one(tensor: Tensor) -> Tensor:
            shared = (total, next(place)) in self._places
            return nested.as_shared(tensor) if shared else tensor

        return nested.map_tensors(one, batch)


def _targets(batch: Any) -> list[Any]:
    """Return what may be the same for the samples of many batches: their targets."""
    if isinstance(batch, Mapping):
        return [batch[name] for name in _TARGETS if name in batch]
    return [batch[1]] if isinstance(batch, (tuple, list)) and len(batch) == 2 else []


def _tells(tensor: Tensor, targets: list[Any]) -> bool:
    """Return whether a tensor that is in two batches is shared; equal rows would say nothing."""
    if any(tensor is target for target in targets) or not tensor.ndim:
        return False
    return bool((tensor != tensor[:1]).any())
