"""The generators of random numbers by which a loader may shuffle."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

_HOLDERS = ("sampler", "batch_sampler", "dataset")  # attributes of loaders, and of samplers


class Source(NamedTuple):
    """A generator, as ways to read its state and to set it."""

    get: Callable[[], Any]
    put: Callable[[Any], Any]


def sources_of(batches: object) -> list[Source]:
    """Return those of Python and NumPy, and those among the attributes of a loader.

    Its samplers and its data set may hold one, too. Torch's own generator is left out.
    """
    found = [
        Source(random.getstate, random.setstate),
        Source(np.random.get_state, np.random.set_state),
    ]
    known: set[int] = set()
    waiting = [batches]
    while waiting:
        holder = waiting.pop()
        for name, value in getattr(holder, "__dict__", {}).items():
            if id(value) in known:
                continue
            known.add(id(value))
            if (source := _source(value)) is not None:
                found.append(source)
            elif name.lstrip("_") in _HOLDERS:
                waiting.append(value)
    return found


def _source(value: Any) -> Source | None:
    """Return a generator as a source, None for anything else."""
    if isinstance(value, np.random.Generator):
        bits: Any = value.bit_generator
        return Source(lambda: bits.state, lambda state: setattr(bits, "state", state))
    if isinstance(value, random.Random):
        return Source(value.getstate, value.setstate)
    if isinstance(value, (torch.Generator, np.random.RandomState)):
        return Source(value.get_state, value.set_state)
    return None


def states_of(sources: Sequence[Source]) -> list[Any]:
    """Return the states of generators."""
    return [source.get() for source in sources]


@contextmanager
def continued(sources: Sequence[Source], states: list[Any]) -> Iterator[None]:
    """Let generators go on from states, which become those after the block; then restore them."""
    before = states_of(sources)
    _put(sources, states)
    try:
        yield
        states[:] = states_of(sources)
    finally:
        _put(sources, before)


def _put(sources: Sequence[Source], states: Sequence[Any]) -> None:
    for source, state in zip(sources, states, strict=True):
        source.put(state)
