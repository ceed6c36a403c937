"""Data as users hand them over, into samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from chita import nested
from chita.data.examples import Examples, as_examples, check_kinds, cut, size_of
from chita.data.shared import marked
from chita.errors import InputError, failures_as
from chita.imports import cause

Batches = Iterable[Any]
"""Batches that can be read again and again, such as a `DataLoader` or a list: pairs (inputs,
targets), dicts, or whatever the loss takes."""


@runtime_checkable
class Indexed(Protocol):
    """Samples that are read when they are asked for, such as the images of a folder."""

    def __len__(self) -> int:
        """Number of samples N."""

    def take(self, index: Tensor) -> Examples:
        """Return the samples named by index (k,), in that order."""

    def batches(self, size: int) -> Iterator[Any]:
        """Iterate over consecutive batches of at most `size` samples."""


Data = Examples | Indexed | tuple[Any, Any] | dict[str, Any] | Batches
"""Samples at once (`Examples`, a pair, a dict of tensors), by index, or in batches."""


def batches_of(data: Data, size: int) -> Iterator[Any]:
    """Iterate over all data in batches: of at most `size` samples, or as they come.

    Raises `InputError` when the data can be read only once, or hold nothing.
    """
    indexed = as_examples(data) or data
    if isinstance(indexed, Indexed):
        yield from indexed.batches(size)
        return
    empty = True
    for batch in read(readable(data)):
        empty = False
        yield batch
    if empty:
        raise InputError(NOTHING)


def a_few(data: Data) -> Examples:
    """Return the first two samples of data, or the first one that cannot be told apart.

    Torch's generator is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        batch = next(iter(batches_of(data, 2)))
    return Examples(next(cut(batch, 2)))


NOTHING = (
    "The data yield no batch, or None for each. Give batches that can be read again and again: a "
    "DataLoader, a list, an object whose __iter__ starts again."
)


def readable(data: Any) -> Iterable[Any]:
    """Return the data as batches that can be read again.

    Raises `InputError` for anything else: an iterator would be empty at the next reading, and a
    tuple of two sets of samples is more likely (calibration, evaluation) than two batches.
    """
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_set, data)):
        raise InputError(
            f"The data are a tuple of two sets of samples, {nested.described(data)}. If they are "
            "(calibration, evaluation), give only the first; two batches go into a list."
        )
    if isinstance(data, tuple) and len(data) > 2 and all(isinstance(p, Tensor) for p in data):
        raise InputError(
            f"The data are {nested.described(data)}; give a pair. Several inputs go into a tuple, "
            "before the targets: ((a, b), targets). Several batches go into a list."
        )
    if isinstance(data, tuple) and any(hasattr(part, "__array__") for part in data):
        raise InputError(
            f"The data are {nested.described(data)}; give tensors of as many samples in each, made "
            "from arrays by torch.as_tensor."
        )
    if isinstance(data, Mapping) and not any(True for _ in nested.tensors(data)):
        raise InputError(
            f"The data are {nested.described(data)}, without a tensor; give tensors of as many "
            "samples in each, made from arrays by torch.as_tensor, or a single loader."
        )
    if isinstance(data, (Tensor, str, bytes)) or not isinstance(data, Iterable):
        raise InputError(
            f"The data are a {type(data).__name__}; give a pair (inputs, targets) of tensors, or "
            "batches of such pairs, as torch.utils.data.DataLoader makes them of a data set."
        )
    if isinstance(data, Iterator) and iter(data) is data:  # iter of a loader starts its workers
        raise InputError(
            f"The data are a {type(data).__name__}, which can be read only once. Give a "
            "DataLoader, a list of batches, or an object whose __iter__ starts again."
        )
    return data


def _is_set(part: Any) -> bool:
    """Return whether this could be a set of samples by itself."""
    if isinstance(part, (tuple, list)):
        return len(part) == 2 and isinstance(part[1], Tensor)
    return isinstance(part, (Examples, Indexed, Mapping))


def read(batches: Iterable[Any], iterator: Iterator[Any] | None = None) -> Iterator[Any]:
    """Iterate over batches, by an iterator of them if given; a failure becomes an `InputError`.

    A batch that is None, or holds no sample, is passed over: a `collate_fn` gives such where it
    drops broken samples. Tensors that all samples share are marked (`chita.data.shared`).
    """
    what = f"The {type(batches).__name__} fails while it is read"
    ask = "Read all of it once by hand to find the sample."
    with failures_as(InputError, what, ask, why=cause):
        given = batches if iterator is None else iterator
        yield from marked(
            _checked(batch) for batch in given if batch is not None and nested.count(batch) != 0
        )


def _checked(batch: Any) -> Any:
    """Return a batch, unless it is an array by itself or holds tensors without samples."""
    if isinstance(batch, np.ndarray):
        raise InputError(
            f"A batch is an array {batch.shape} by itself. Give a pair (inputs, targets) of "
            "tensors, made from arrays by torch.as_tensor, or batches of such pairs."
        )
    check_kinds(batch)
    return batch


def held(data: Any) -> int | None:
    """Return the number of samples of a list of batches or a loader, None where only reading tells.

    It may be too large: what is broken is passed over only when it is read.

    >>> held([torch.zeros(4, 2), torch.zeros(3, 2)])
    7
    """
    if isinstance(data, (list, tuple)):
        return sum(size_of(batch) for batch in data if batch is not None)
    if isinstance(data, DataLoader) and data.batch_size is not None:
        with suppress(TypeError, NotImplementedError):  # a stream has no length
            whole = len(data) * data.batch_size
            return whole if data.drop_last else min(whole, len(data.sampler))  # type: ignore[arg-type]
    return None


def started(batches: Iterable[Any]) -> Iterator[Any]:
    """Return a new iterator over batches; a failure becomes an `InputError`."""
    what = f"The {type(batches).__name__} cannot be read"
    with failures_as(InputError, what, "Look at its __iter__.", why=cause):
        return iter(batches)


def is_single(batch: Any) -> bool:
    """Return whether this is one sample of a data set: a pair whose second entry has no dimension.

    So too a dict whose token ids have one dimension, as Hugging Face's data sets give them.
    """
    if isinstance(batch, Mapping) and isinstance(batch.get("input_ids"), Tensor):
        return bool(batch["input_ids"].ndim < 2)
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    return pair and (
        isinstance(batch[1], (int, float)) or (isinstance(batch[1], Tensor) and batch[1].ndim == 0)
    )


def check_enough(found: int, count: int, validation: int = 0) -> None:
    """Raise `InputError` when there are fewer samples than gradients and validation need."""
    if found < count + validation:
        held = f" and {validation} for validation," if validation else ""
        raise InputError(
            f"The gradients need {count} samples (`samples` x `samples_per_gradient`),{held} but "
            f"the calibration data hold {found}. Lower one of them, or give more data."
        )
