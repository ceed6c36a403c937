"""Samples to calibrate on: some for validation, the others drawn again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
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
from chita.data.examples import Examples, as_examples, size_of
from chita.data.generators import continued, sources_of, states_of
from chita.errors import InputError

_COMPARED = 64  # validation samples of two readings
_MOST = 100_000  # batches in an epoch of a loader


class Sampler(ABC):
    """Draws of samples without repetition, until all were drawn; then it starts again.

    Fields: `validation`, samples that no draw gives, None where they were not asked for; `given`,
    the first batch as it was given, None where samples come one by one, or none was read yet.
    """

    validation: Examples | None
    given: Any = None

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
        """Iterate over all samples but those of validation once, in batches of `size`.

        Samples at once, or by index, come in an order of its own for each number of an epoch; a
        last batch of fewer is left out, unless it is the only one. Batches come as they are given;
        a loader that shuffles does so by the number, unless it gives validation samples.
        """

    @abstractmethod
    def batches(self, size: int) -> int:
        """Return the number of batches of an epoch; those of a loader are counted."""


def make_sampler(data: Data, *, seed: int, validation: int = 0) -> Sampler:
    """Return a sampler of the data that keeps so many samples for `validation`.

    Samples at once, or by index, come in an order drawn by `seed`, a new one when all were drawn.
    Batches come in their own order, the first ones for validation; a loader that shuffles by
    torch's own generator does so by `seed`, and alike whenever it starts again.

    Raises `InputError` when there are no more samples than those of validation.
    """
    indexed = as_examples(data) or data
    if isinstance(indexed, Indexed):
        return _IndexedSampler(indexed, seed % 2**63, validation)
    return _StreamSampler(readable(data), seed % 2**63, validation)


def draw(data: Data, count: int, seed: int) -> Examples:
    """Return `count` samples of the data, the first that `make_sampler` draws."""
    return make_sampler(data, seed=seed).draw(count)


@final
class _IndexedSampler(Sampler):
    def __init__(self, samples: Indexed, seed: int, validation: int) -> None:
        self._samples, self._seed = samples, seed
        self.given = samples.parts[0] if isinstance(samples, Examples) else None
        self._generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(samples), generator=self._generator, device="cpu")
        if validation:
            check_enough(len(order), 1, validation)
        kept = len(order) - validation
        self.validation = samples.take(order[kept:]) if validation else None
        self._first = self._order = order[:kept]
        self._at = 0

    def draw(self, count: int) -> Examples:
        check_enough(len(self._samples), count, len(self._samples) - len(self._order))
        if self._at + count > len(self._order):
            again = torch.randperm(len(self._order), generator=self._generator, device="cpu")
            self._order, self._at = self._order[again], 0
        self._at += count
        return self._samples.take(self._order[self._at - count : self._at])

    def some(self, count: int) -> Examples:
        return self._samples.take(self._first[:count])

    def epoch(self, number: int, size: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed((self._seed + 1_000_003 * (number + 1)) % 2**63)
        order = self._first[torch.randperm(len(self._first), generator=generator, device="cpu")]
        for index in order.split(size):
            if len(index) == min(size, len(order)):
                yield from self._samples.take(index).batches(size)

    def batches(self, size: int) -> int:
        return max(1, len(self._first) // size)


@final
class _StreamSampler(Sampler):
    """A sampler that reads on where it stopped, as does torch's own generator.

    Where samples are kept for validation, so do the other generators of the loader. Each reading
    then begins as that of `before`, which made this sampler.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        seed: int,
        validation: int,
        before: _StreamSampler | None = None,
    ) -> None:
        self._batches, self._seed, self._count = batches, seed, validation
        self._checked = self._fresh = False
        self._sources = sources_of(batches) if validation else []
        self._begun: list[Any] = states_of(self._sources) if before is None else before._begun
        self._kept: str | None = None if before is None else before._kept
        self.validation = self._start()

    def draw(self, count: int) -> Examples:
        found = self._read(count)
        if not self._fresh and (found is None or len(found) < count):
            self._start()
            found = self._read(count)
        found = _enough(found, count, self._count)
        self._fresh = False
        if not self._checked:
            self._check_again()
        return found

    def some(self, count: int) -> Examples:
        other = _StreamSampler(self._batches, self._seed, self._count, self)
        return _enough(other._read(count), 1, self._count)

    def epoch(self, number: int, size: int) -> Iterator[Any]:
        # Another order would give other samples for validation.
        seed = self._seed if self._count else (self._seed + number) % 2**63
        other = _StreamSampler(self._batches, seed, self._count, self)
        yield from other._left
        while (batch := other._next()) is not None:
            yield from Examples(batch).parts

    def batches(self, size: int) -> int:
        found = sum(1 for _ in islice(self.epoch(0, size), _MOST + 1))
        if found > _MOST:
            raise InputError(
                f"The {type(self._batches).__name__} has more than {_MOST:,} batches, as one that "
                "does not end. Training needs epochs that do: give a list of batches, such as "
                "list(itertools.islice(loader, 1000))."
            )
        return found

    def _start(self) -> Examples | None:
        """Begin to read, and return the samples for validation.

        Raises `InputError` where they are not those of the reading before.
        """
        self._left: tuple[Any, ...] = ()  # what was read beyond the samples that were asked for
        self._fresh = True  # nothing was drawn since
        self._state = torch.Generator().manual_seed(self._seed).get_state()
        self._states = list(self._begun)
        with self._seeded():
            self._iterator = started(self._batches)
        self._reading = read(self._batches, self._iterator)
        if not self._count:
            return None
        validation = _enough(self._read(self._count), self._count, 0)
        digest = validation.first(_COMPARED).digest()
        if self._kept not in (None, digest):
            raise InputError(
                f"The {type(self._batches).__name__} begins with other samples at each reading, so "
                f"that `validation` samples, {self._count}, cannot be kept apart. Give a loader "
                "whose order is fixed, samples at once, or `validation=0`."
            )
        self._kept = digest
        return validation

    def _read(self, count: int) -> Examples | None:
        """Return the next `count` samples, or those that are left, if any."""
        found = list(self._left)
        total = sum(map(size_of, found))
        while total < count and (batch := self._next()) is not None:
            found.append(batch)
            total += size_of(batch)
        if not total:
            return None
        taken, left = Examples(*found).split(count)
        self._left = () if left is None else left.parts
        return taken

    def _next(self) -> Any:
        """Return the next batch, None after the last."""
        with self._seeded():
            batch = next(self._reading, None)
        if is_single(batch):
            raise InputError(
                f"A batch is {nested.described(batch)}: a single sample. Wrap a data set of single "
                "samples in torch.utils.data.DataLoader."
            )
        self.given = batch if self.given is None else self.given
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
        with torch.random.fork_rng(devices=[]), continued(self._sources, self._states):
            torch.default_generator.set_state(self._state)
            yield
            self._state = torch.default_generator.get_state()


def _enough(found: Examples | None, count: int, validation: int) -> Examples:
    """Return what was read after the validation samples, if it is enough."""
    check_enough(validation + (0 if found is None else len(found)), count, validation)
    if found is None:
        raise InputError(NOTHING)
    return found
