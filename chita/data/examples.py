"""Samples in memory, whatever their structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from chita import nested
from chita.data.shared import all_marked
from chita.errors import InputError


@final
class Examples:
    """Samples in memory, as batches: a pair (inputs, targets), a dict, anything nested.

    The first dimension of every tensor runs over samples. Consecutive batches of one structure
    are joined; those that differ (in padding, say) stay apart. A batch in which samples cannot
    be told apart, such as a graph, counts as one sample; so does one with a tensor that belongs to
    no sample, as other batches show (`chita.data.shared`). A batch that is None is passed over.

    Raises `InputError` when there is no sample, or a tensor holds NaN or infinite values.

    >>> len(Examples((torch.zeros(3, 2), torch.tensor([0, 1, 0]))))
    3
    """

    def __init__(self, *batches: Any) -> None:
        given = [batch for batch in batches if batch is not None]
        for batch in given:
            _check(batch)
        self._join(all_marked(given))

    def _join(self, batches: Sequence[Any]) -> Examples:
        groups: list[list[Any]] = []
        for batch in batches:
            last = groups[-1][0] if groups else None
            counted = nested.count(batch) is not None and nested.count(last) is not None
            if counted and nested.joinable(last, batch):
                groups[-1].append(batch)
            else:
                groups.append([batch])
        self.parts: tuple[Any, ...] = tuple(map(nested.joined, groups))
        if not len(self):
            raise InputError("The data hold no sample; give at least one.")
        return self

    @classmethod
    def _of(cls, *batches: Any) -> Examples:
        """Return samples made of others, which were checked."""
        return cls.__new__(cls)._join(batches)

    @property
    def batch(self) -> Any:
        """All samples as one batch.

        Raises `InputError` where they are of several structures.
        """
        if len(self.parts) > 1:
            raise InputError(
                "The samples have different shapes and make no single batch. Bring them to one "
                "shape (pad), or give them as batches."
            )
        return self.parts[0]

    def __len__(self) -> int:
        """Number of samples N."""
        return sum(map(size_of, self.parts))

    def take(self, index: Tensor) -> Examples:
        """Return the samples named by index (k,), in that order."""
        if len(self.parts) == 1 and nested.count(self.batch) is not None:
            return Examples._of(nested.taken(self.batch, index))
        singles = list(self.batches(1))
        return Examples._of(*(singles[i] for i in index.tolist()))

    def first(self, count: int) -> Examples:
        """Return the first `count` samples."""
        return self.split(count)[0]

    def split(self, count: int) -> tuple[Examples, Examples | None]:
        """Return the first `count` samples and the others, None where there are no others."""
        kept, others, left = [], [], count
        for part in self.parts:
            whole = nested.count(part) is None or size_of(part) <= left
            if left > 0:
                kept.append(part if whole else sliced(part, 0, left))
            if left <= 0 or not whole:
                others.append(part if left <= 0 else sliced(part, left, size_of(part)))
            left -= size_of(part)
        return Examples._of(*kept), Examples._of(*others) if others else None

    def batches(self, size: int) -> Iterator[Any]:
        """Iterate over consecutive batches of at most `size` samples."""
        for part in self.parts:
            yield from cut(part, size)

    def firsts(self, size: int) -> Iterator[Any]:
        """Iterate over the parts, each cut to its first `size` samples."""
        for part in self.parts:
            yield next(cut(part, size))

    def to(self, device: torch.device | str) -> Examples:
        """Return the samples on a device; objects of other types by their own `to`, if any."""
        parts = (nested.map_leaves(lambda x: _moved(x, device), part) for part in self.parts)
        return Examples._of(*parts)

    def digest(self) -> str | None:
        """Return a SHA-256 over structure, types, shapes and bytes, in hexadecimal.

        None where a batch is an object of a type of its own.
        """
        if any(nested.count(part) is None for part in self.parts):
            return None
        total = hashlib.sha256()
        for part in self.parts:
            total.update(f"{nested.described(part, whole=True)};".encode())
            for tensor in nested.tensors(part):
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                total.update(flat.view(torch.uint8).numpy().data)
            for place, row in nested.rows(part, size_of(part)):
                total.update(f"{place}={list(row)};".encode())
        return total.hexdigest()


def cut(batch: Any, size: int) -> Iterator[Any]:
    """Iterate over consecutive batches of at most `size` samples of a larger one."""
    if nested.count(batch) is None:
        yield batch
    else:
        for start in range(0, size_of(batch), size):
            yield sliced(batch, start, start + size)


def as_examples(data: object) -> Examples | None:
    """Return samples given at once (`Examples`, a pair, a dict of tensors), None for others.

    A tuple whose second entry is a tensor or None is one pair (inputs, targets).
    """
    match data:
        case Examples():
            return data
        case (_, Tensor() | None) if isinstance(data, tuple):
            if nested.count(data) is None:
                raise InputError(
                    f"The data are {nested.described(data)}, without one number of samples: the "
                    "first sizes of inputs and targets must agree."
                )
            return Examples(data)
    if isinstance(data, Mapping) and any(True for _ in nested.tensors(data)):
        return Examples(data)
    return None


def size_of(part: Any) -> int:
    """Return the number of samples of a batch, 1 where they cannot be told apart."""
    count = nested.count(part)
    return 1 if count is None else count


def sliced(part: Any, start: int, stop: int) -> Any:
    """Return the samples from start to stop of a batch whose samples can be told apart."""
    return nested.taken(part, slice(start, stop))


def _moved(leaf: Any, device: torch.device | str) -> Any:
    return leaf.to(device) if hasattr(leaf, "to") else leaf


_KINDS: tuple[tuple[Callable[[Tensor], bool], str, str], ...] = (
    (lambda t: t.is_nested, "nested", "one that is padded, by to_padded_tensor(), and a mask"),
    (lambda t: t.is_quantized, "quantised", "them as dequantize() makes them"),
    (lambda t: t.layout != torch.strided, "sparse", "them as to_dense() makes them"),
)
"""Tensors from which no samples are taken."""


def check_kinds(batch: Any) -> None:
    """Raise `InputError` that names a nested, quantised or sparse tensor of a batch."""
    for place, tensor in nested.named(batch):
        for is_so, kind, way in _KINDS:
            if is_so(tensor):
                raise InputError(f"The samples hold {kind} tensors, as {place}; give {way}.")


def _check(batch: Any) -> None:
    parts = list(nested.tensors(batch))
    if any(tensor.is_meta for tensor in parts):
        raise InputError("The samples are on the meta device and hold no values.")
    check_kinds(batch)
    if any(t.is_floating_point() and not _sound(t) for t in parts):
        raise InputError("The inputs hold NaN or infinite values; clean the data first.")


def _sound(tensor: Tensor) -> bool:
    """Return whether no value is NaN or +inf; masks add -inf to attention scores."""
    return not bool((torch.isnan(tensor) | torch.isposinf(tensor)).any())
