"""Tensors that belong to a batch as a whole, such as a mask of attention, found among batches.

The first size of such a tensor may be the number of samples by chance, in one batch or in all.
Other batches then show what it is. So too for lists and arrays, which are marked as `nested.Row`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any

import numpy as np
from torch import Tensor

from chita import nested
from chita.errors import InputError

_TARGETS = ("labels", "label", "targets", "target", "y")


def marked(batches: Iterable[Any]) -> Iterator[Any]:
    """Iterate over batches with their shared tensors marked as `nested.Shared`.

    A tensor is shared if its first size is not that of the others in some batch before or in this
    one, or if the same object is in two batches that follow one another. Of batches in which there
    could be such a tensor, the second one is read before the first is given.
    """
    known, iterator = _Known(), iter(batches)
    begun = list(islice(iterator, 1))
    if begun and (
        len(list(nested.tensors(begun[0]))) > 2 - isinstance(begun[0], Mapping)
        or any(True for _ in nested.rows(begun[0], nested.count(begun[0]) or 0))
    ):
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
        self._rows = _Rows()

    def see(self, batch: Any) -> None:
        """Learn from a batch."""
        found = list(nested.tensors(batch))
        again = len(found) == len(self._last) and all(map(operator.is_, found, self._last))
        self._rows.see(batch, again=again)
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
        batch = self._rows.mark(batch)
        total = len(list(nested.tensors(batch)))
        if not self._places or nested.count(batch) is None:
            return batch
        place = count()

        def one(tensor: Tensor) -> Tensor:
            shared = (total, next(place)) in self._places
            return nested.as_shared(tensor) if shared else tensor

        return nested.map_tensors(one, batch)


class _Rows:
    """The places of lists and arrays that samples share, and of those with a value for each.

    The latter are as long as there are samples, in all batches. Texts that are the same in two
    batches that follow one another are shared, such as names of classes.
    """

    def __init__(self) -> None:
        self._shared: set[tuple[int, int]] = set()
        self._own: set[tuple[int, int]] = set()
        self._same: set[tuple[int, int]] = set()  # shared, as far as was seen
        self._other: set[tuple[int, int]] = set()  # seen to differ from batch to batch
        self._last: dict[tuple[int, int], list[Any]] = {}

    def see(self, batch: Any, *, again: bool) -> None:
        """Learn from a batch, which may be the one before `again`.

        Raises `InputError` where it cannot be told whose values are.
        """
        samples = nested.count(batch)
        found = list(nested.rows(batch, samples or 0))
        for i, (place, row) in enumerate(found if samples else ()):
            key = len(found), i
            if isinstance(row, nested.Row):
                (self._own if isinstance(row, nested.PerSample) else self._shared).add(key)
            elif len(row) != samples:
                self._shared.add(key)
            elif samples > 1:
                self._own.add(key)
                if not again and not self._compare(key, row):
                    kind = type(row).__name__
                    raise InputError(_UNCLEAR.format(place=place, kind=kind, samples=samples))

    def _compare(self, key: tuple[int, int], row: Any) -> bool:
        """Return whether it can be told whose the values are, after those of the last batch."""
        values = row.tolist() if isinstance(row, np.ndarray) else list(row)
        last, self._last[key] = self._last.get(key), values
        if last is None or key in self._shared or all(value == values[0] for value in values):
            return True
        if values != last:
            self._other.add(key)
            return key not in self._same
        if key in self._other:
            return True
        self._same.add(key)
        return isinstance(values[0], str)

    def mark(self, batch: Any) -> Any:
        """Return a batch whose lists and arrays are rows of a known kind."""
        samples = nested.count(batch)
        if not samples or not self._own | self._shared:
            return batch
        total, place = len(list(nested.rows(batch, samples))), count()
        shared = self._shared | self._same

        def is_row(part: Any) -> bool:
            return nested.is_row(part, samples)

        def one(leaf: Any) -> Any:
            if not is_row(leaf):
                return leaf
            key = total, next(place)
            known = key in shared or key in self._own
            return nested.as_row(leaf, shared=key in shared) if known else leaf

        return nested.map_leaves(one, batch, is_row)


_UNCLEAR = (
    "The entry {place} of a batch, {kind}, holds {samples} values beside {samples} samples, the "
    "same in two batches: it may hold one for each sample, or belong to the batch as a whole. Give "
    "it as a tensor if it is the first, and keep it in the loss or the network if it is not."
)


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
