"""Labelled samples as the rest of the package sees them."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

from chita.errors import InputError

Batches = Iterable[tuple[Tensor, Tensor]]
"""Re-readable batches: each is a pair of inputs (b, ...) and targets (b, ...)."""


@final
@dataclass(frozen=True)
class Examples:
    """Samples in memory: `inputs` (N, ...) and `targets` (N, ...), N >= 1.

    Raises `InputError` when the lengths differ, there is no sample, or an input is not finite.

    >>> len(Examples(torch.zeros(3, 2), torch.tensor([0, 1, 0])))
    3
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.inputs.is_meta or self.targets.is_meta:
            raise InputError("The samples are on the meta device and hold no values.")
        if self.inputs.ndim == 0 or self.targets.ndim == 0:
            raise InputError("Inputs and targets need a first dimension of samples.")
        if len(self.inputs) != len(self.targets) or len(self.inputs) == 0:
            raise InputError(
                f"Got {len(self.inputs)} inputs and {len(self.targets)} targets; there must be as "
                "many of one as of the other, and at least one."
            )
        if self.inputs.is_floating_point() and not bool(torch.isfinite(self.inputs).all()):
            raise InputError("The inputs hold NaN or infinite values; clean the data first.")

    def __len__(self) -> int:
        """Number of samples N."""
        return len(self.inputs)

    def take(self, index: Tensor) -> Examples:
        """Return the samples named by index (k,), in that order."""
        return Examples(self.inputs[index], self.targets[index])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over consecutive batches of at most `size` samples."""
        return zip(self.inputs.split(size), self.targets.split(size), strict=True)

    def to(self, device: torch.device | str) -> Examples:
        """Return the samples on a device."""
        return Examples(self.inputs.to(device), self.targets.to(device))

    def digest(self) -> str:
        """Return a SHA-256 over types, shapes and bytes, in hexadecimal."""
        total = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            total.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
            total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return total.hexdigest()


def draw(data: Examples | Batches | tuple[Tensor, Tensor], count: int, seed: int) -> Examples:
    """Return `count` samples to calibrate on.

    From `Examples` or a pair of tensors: drawn without replacement, by `seed`. From batches: the
    first ones, in the order in which they come.

    Raises `InputError` when there are too few samples, or a batch is not a pair of tensors.
    """
    examples = _in_memory(data)
    if examples is None:
        return _first(cast(Iterable[object], data), count)
    _check_enough(len(examples), count)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed % 2**63))
    return examples.take(order[:count])


def choose(
    data: Examples | Batches | tuple[Tensor, Tensor], index: Sequence[int], row_size: int
) -> Examples:
    """Return the samples named by a list of indices, as given: a run can be repeated exactly.

    Raises `InputError` when an index is out of range, the data are batches, which have no
    indices, or the list does not make whole rows of `row_size`.
    """
    examples = _in_memory(data)
    if examples is None:
        raise InputError("row_indices need samples in memory: give a pair (inputs, targets).")
    try:
        index = [operator.index(i) for i in index]
    except TypeError:
        raise InputError("row_indices holds something that is no whole number.") from None
    if not index or len(index) % row_size:
        raise InputError(
            f"{len(index)} row indices do not make whole rows of {row_size}; give a multiple."
        )
    outside = [i for i in index if not 0 <= i < len(examples)]
    if outside:
        raise InputError(
            f"{len(outside)} row indices are outside 0 to {len(examples) - 1}, the first is "
            f"{outside[0]}. Indices count samples of the calibration split from 0."
        )
    return examples.take(torch.tensor(index, dtype=torch.int64))


def as_examples(data: Examples | tuple[Tensor, Tensor]) -> Examples:
    """Return a pair (inputs, targets) as `Examples`.

    Raises `InputError` when it is no such pair.
    """
    examples = _in_memory(data)
    if examples is None:
        raise InputError(
            f"The data are a {type(data).__name__}; give a pair (inputs, targets) of tensors."
        )
    return examples


def _in_memory(data: Examples | Batches | tuple[Tensor, Tensor]) -> Examples | None:
    match data:
        case Examples():
            return data
        case tuple((Tensor() as inputs, Tensor() as targets)):
            return Examples(inputs, targets)
    return None


def _first(batches: Iterable[object], count: int) -> Examples:
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    found = 0
    try:
        iterator = iter(batches)
    except TypeError:
        raise InputError(
            f"The data are a {type(batches).__name__}; give a pair (inputs, targets) of tensors, "
            "or batches of such pairs."
        ) from None
    for batch in iterator:
        match batch:
            case (Tensor() as x, Tensor() as y) if x.ndim > 0 and y.ndim > 0 and len(x) == len(y):
                inputs.append(x)
                targets.append(y)
            case _:
                raise InputError(
                    f"A batch is a {type(batch).__name__} that is no pair (inputs, targets) of "
                    "tensors with as many samples in each. Wrap a data set of single samples in "
                    "torch.utils.data.DataLoader."
                )
        found += len(inputs[-1])
        if found >= count:
            break
    _check_enough(found, count)
    for parts in (inputs, targets):
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            raise InputError(f"Samples have different shapes: {shapes}. Bring them to one.")
    return Examples(torch.cat(inputs)[:count], torch.cat(targets)[:count])


def _check_enough(found: int, count: int) -> None:
    if found < count:
        raise InputError(
            f"The rows need {count} samples (rows x row_size), but the calibration data hold "
            f"{found}. Lower rows or row_size, or give more data."
        )
