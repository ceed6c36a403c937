"""Samples to calibrate on: some held out, the others drawn again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch

from chita import nested
from chita.data.batches import (
    NOTHING,
    Data,
    Indexed,
    check_enough,
    is_single,
    read,
    readable,
    started,
)
from chita.data.examples import Examples, as_examples
from chita.errors import InputError


class Pool(ABC):
    """Samples of which every draw takes others, until all were taken and it starts anew.

    Field: `held`, samples that no draw gives; None where none were asked for.
    """

    held: Examples | None

    @abstractmethod
    def draw(self, count: int) -> Examples:
        """Return the next `count` samples, each at most once.

        Raises `InputError` when there are too few, or the batches can be read only once.
        """

    @abstractmethod
    def some(self, count: int) -> Examples:
        """Return the same first `count` samples whenever asked, or all where there are fewer."""

    @abstractmethod
    def epoch(self, number: int, size: int) -> Iterator[Any]:
        """Iterate over all samples that are not held out once, in batches of `size`.

        Samples at once, or by index, come in an order of its own for each number of an epoch; a
        last batch of fewer is left out, unless it is the only one. Batches come as they are given;
        a loader that shuffles does so by the number, unless samples are held out of it.
        """

    @abstractmethod
    def batches(self, size: int) -> int:
        """Return how many batches an epoch has; of a loader that does not tell, it is counted."""


def make_pool(data: Data, *, seed: int, held_out: int = 0) -> Pool:
    """Return a pool of the data.

    Samples at once, or by index, come in an order drawn by `seed`, a new one when all were drawn.
    Batches come in their own order, the first ones held out; a loader that shuffles by torch's
    own generator does so by `seed`, and alike whenever it starts anew.

    Raises `InputError` when there are no more samples than are held out.
    """
    indexed = as_examples(data) or data
    if isinstance(indexed, Indexed):
        return _IndexedPool(indexed, seed % 2**63, held_out)
    return _Stream(readable(data), seed % 2**63, held_out)


def draw(data: Data, count: int, seed: int) -> Examples:
    """Return `count` samples of the data, the first that `make_pool` draws."""
    return make_pool(data, seed=seed).draw(count)


@final
class _IndexedPool(Pool):
    def __init__(self, samples: Indexed, seed: int, held_out: int) -> None:
        self._samples, self._seed = samples, seed
        self._generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(samples), generator=self._generator)
        if held_out:
            check_enough(len(order), 1, held_out)
        kept = len(order) - held_out
        self.held = samples.take(order[kept:]) if held_out else None
        self._first = self._order = order[:kept]
        self._at = 0

    def draw(self, count: int) -> Examples:
        held_out = len(self._samples) - len(self._order)
        check_enough(len(self._samples), count, held_out)
        if self._at + count > len(self._order):
            again = torch.randperm(len(self._order), generator=self._generator)
            self._order, self._at = self._order[again], 0
        self._at += count
        return self._samples.take(self._order[self._at - count : self._at])

    def some(self, count: int) -> Examples:
        return self._samples.take(self._first[:count])

    def epoch(self, number: int, size: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed((self._seed + 1_000_003 * (number + 1)) % 2**63)
        order = self._first[torch.randperm(len(self._first), generator=generator)]
        for index in order.split(size):
            if len(index) == min(size, len(order)):
                yield from self._samples.take(index).batches(size)

    def batches(self, size: int) -> int:
        return max(1, len(self._first) // size)


@final
class _Stream(Pool):
    """Reads on where it stopped; torch's own generator goes on from where it was, too."""

    def __init__(self, batches: Iterable[Any], seed: int, held_out: int) -> None:
        self._batches, self._seed, self._held_out = batches, seed, held_out
        self._checked = self._fresh = False
        self.held = self._start()

    def draw(self, count: int) -> Examples:
        found = self._read(count)
        if not self._fresh and (found is None or len(found) < count):
            self._start()
            found = self._read(count)
        found = _enough(found, count, self._held_out)
        self._fresh = False
        if not self._checked:
            self._check_again()
        return found

    def some(self, count: int) -> Examples:
        other = _Stream(self._batches, self._seed, self._held_out)
        return _enough(other._read(count), 1, self._held_out)

    def epoch(self, number: int, size: int) -> Iterator[Any]:
        # Another order would hold out other samples.
        seed = self._seed if self._held_out else (self._seed + number) % 2**63
        other = _Stream(self._batches, seed, self._held_out)
        if other._left is not None:
            yield from other._left.parts
        while (batch := other._next()) is not None:
            yield from Examples(batch).parts

    def batches(self, size: int) -> int:
        return sum(1 for _ in self.epoch(0, size))

    def _start(self) -> Examples | None:
        """Begin to read, and return what is held out."""
        self._left: Examples | None = None
        self._fresh = True  # nothing was drawn since
        self._state = torch.Generator().manual_seed(self._seed).get_state()
        with self._seeded():
            self._iterator = started(self._batches)
        self._reading = read(self._batches, self._iterator)
        if not self._held_out:
            return None
        return _enough(self._read(self._held_out), self._held_out, 0)

    def _read(self, count: int) -> Examples | None:
        """The next `count` samples, or those that are left, if any."""
        found: list[Any] = [] if self._left is None else list(self._left.parts)
        total = 0 if self._left is None else len(self._left)
        while total < count and (batch := self._next()) is not None:
            found.append(batch)
            size = nested.count(batch)
            total += 1 if size is None else size
        if not total:
            return None
        taken, self._left = Examples(*found).split(count)
        return taken

    def _next(self) -> Any:
        """The next batch, None where there is no other."""
        with self._seeded():
            batch = next(self._reading, None)
        if is_single(batch):
            raise InputError(
                f"A batch is {nested.described(batch)}: a single sample. Wrap a data set of single "
                "samples in torch.utils.data.DataLoader."
            )
        return batch

    def _check_again(self) -> None:
        with self._seeded():
            again = started(self._batches)
            if again is self._iterator or not any(True for _ in read(self._batches, again)):
                raise InputError(
                    f"The {type(self._batches).__name__} yields nothing the second time. {NOTHING}"
                )
        self._checked = True

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(self._state)
            yield
            self._state = torch.default_generator.get_state()


def _enough(found: Examples | None, count: int, held_out: int) -> Examples:
    """What was read after those held out, if it is enough."""
    check_enough(held_out + (0 if found is None else len(found)), count, held_out)
    assert found is not None
    return found
