"""Named tensors as one flat vector, and back: the only place that knows offsets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import final

import torch
from torch import Tensor

from chita.errors import InputError
from chita.naming import listed

_SHOWN = 8  # tensors that an error names


@final
@dataclass(frozen=True, kw_only=True)
class Axes:
    """The dimensions of a weight that run over outputs and inputs, and its number of groups.

    `Linear` and `ConvNd` weights are (out, in / groups, ...); transposed convolutions and
    Hugging Face's `Conv1D` hold the inputs first. Matrices of several experts in one tensor are
    (experts, out, in) or (experts, in, out). They are not `known` where nothing tells them: of a
    parameter that is no layer's weight.
    """

    output: int = 0
    input: int = 1
    groups: int = 1
    known: bool = True

    @property
    def stacked(self) -> bool:
        """Whether these are matrices in one tensor of three dimensions, one for each expert."""
        return max(self.output, self.input) > 1

    def by_output(self, weight: Tensor) -> Tensor:
        """Return the weights of every output, (outputs, weights of one output).

        >>> Axes(output=1, input=0).by_output(torch.tensor([[1, 2, 3], [4, 5, 6]]))
        tensor([[1, 4],
                [2, 5],
                [3, 6]])
        """
        if self.stacked:
            return weight.movedim(self.output, 1).flatten(0, 1)
        if self.output == 0 or weight.ndim < 2:
            return weight.reshape(weight.shape[0] if weight.ndim else 1, -1)
        grouped: Tensor = weight.unflatten(0, (self.groups, -1)).movedim(2, 1)
        rows: Tensor = grouped.flatten(0, 1).flatten(1)
        return rows

    def matrices(self, weight: Tensor) -> Tensor:
        """Return a matrix of outputs x inputs for every group, kernel position or expert.

        They are (m, out, in).

        >>> Axes().matrices(torch.arange(8).view(2, 2, 2))[0]  # of a Conv1d, its first position
        tensor([[0, 2],
                [4, 6]])
        """
        if weight.ndim < 2:
            return weight.reshape(1, -1, 1)
        if self.stacked:
            return weight.movedim(self.output, 1)
        parted: Tensor = weight.unflatten(0, (self.groups, -1)).unsqueeze(-1).flatten(3)
        outputs, inputs = (1, 2) if self.output == 0 else (2, 1)
        return parted.permute(0, 3, outputs, inputs).flatten(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class Operations:
    """Multiply-adds of one sample's forward pass; FLOPs are twice as many.

    Fields: `each`, of one weight of every tensor of a layout; `fixed`, of all that pruning these
    weights leaves as it is.
    """

    each: tuple[int, ...]
    fixed: int


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """An ordered set of named tensors seen as one flat vector of p weights.

    Fields: `names`, `shapes` and `axes` hold one entry per tensor. The flat vector is the
    concatenation of the tensors, each in row-major order. `operations` are known where they were
    counted; `width` is the number of bytes of a weight, of the widest where they differ.

    Raises `InputError` when the lengths differ or a name appears twice.

    >>> layout = Layout(names=("a", "b"), shapes=((2, 2), (3,)), axes=(Axes(), Axes()))
    >>> layout.size
    7
    >>> layout.unflatten(torch.arange(7))["b"]
    tensor([4, 5, 6])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[Axes, ...] = field(repr=False)
    operations: Operations | None = None
    width: int = 4

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.shapes) == len(self.axes):
            raise InputError(
                f"A layout needs one shape and one axes entry per name; got {len(self.names)} "
                f"names, {len(self.shapes)} shapes and {len(self.axes)} axes."
            )
        if len(set(self.names)) != len(self.names):
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InputError(f"A layout names each tensor once; repeated: {', '.join(repeated)}.")

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of weights of each tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of weights p."""
        return sum(self.counts)

    @cached_property
    def segments(self) -> tuple[slice, ...]:
        """The slice of the flat vector that each tensor occupies."""
        return slices(self.counts)

    def floors(self, min_keep: int) -> tuple[int, ...]:
        """Return `min_keep` for each tensor, or the number of its weights if that is smaller."""
        return tuple(min(min_keep, count) for count in self.counts)

    def check_axes(self) -> None:
        """Raise `InputError` that names the matrices whose inputs may be either dimension."""
        parts = zip(self.names, self.shapes, self.axes, strict=True)
        found = [n for n, shape, axes in parts if len(shape) > 1 and not axes.known]
        if found:
            raise InputError(
                f"{listed(found, _SHOWN)}: no layer's weights, of which nothing tells whether "
                "outputs or inputs come first, as patterns, blocks and rows must know. Say so on "
                "the modules: module.is_transposed = False where the outputs do, as in nn.Linear, "
                "True where the inputs do. Or leave them out with `ignore`."
            )

    def alone(self, name: str) -> Layout:
        """Return the layout of one of its tensors."""
        at = self.names.index(name)
        return Layout(names=(name,), shapes=(self.shapes[at],), axes=(self.axes[at],))

    @property
    def outputs(self) -> Iterator[slice]:
        """The weights of every output, consecutive; of a matrix that has its inputs first, all.

        >>> layout = Layout(names=("a", "b"), shapes=((2, 3), (4,)), axes=(Axes(), Axes()))
        >>> [(output.start, output.stop) for output in layout.outputs]
        [(0, 3), (3, 6), (6, 10)]
        """
        for at, shape, axes in zip(self.segments, self.shapes, self.axes, strict=True):
            whole = len(shape) < 2 or axes.output > axes.input  # of each expert, where stacked
            width = math.prod(shape[axes.stacked if whole else axes.output + 1 :])
            for start in range(at.start, at.stop, width):
                yield slice(start, start + width)

    def __iter__(self) -> Iterator[tuple[str, slice]]:
        """Iterate over (name, slice of the flat vector)."""
        return iter(zip(self.names, self.segments, strict=True))

    def indexed(self) -> Iterator[tuple[str, Axes, Tensor]]:
        """Iterate over names, axes, and the flat indices of each tensor's weights in its shape."""
        for (name, at), shape, axes in zip(self, self.shapes, self.axes, strict=True):
            yield name, axes, torch.arange(at.start, at.stop, device="cpu").view(shape)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Copy named tensors into a new flat vector (p,).

        Raises `InputError` that lists all missing names and all wrong shapes at once.
        """
        faults = [f"{name} is missing" for name in self.names if name not in tensors]
        faults += [
            f"{name} has shape {tuple(tensors[name].shape)}, expected {shape}"
            for name, shape in zip(self.names, self.shapes, strict=True)
            if name in tensors and tuple(tensors[name].shape) != shape
        ]
        if faults:
            raise InputError(f"The tensors do not fit the layout: {'; '.join(faults)}.")
        return torch.cat([tensors[name].detach().reshape(-1) for name in self.names])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views of a flat vector (p,) under the tensors' names and shapes."""
        if tuple(flat.shape) != (self.size,):
            raise InputError(
                f"The flat vector has shape {tuple(flat.shape)}, expected ({self.size},)."
            )
        return {
            name: flat[segment].view(shape)
            for (name, segment), shape in zip(self, self.shapes, strict=True)
        }


WeightIndex = Tensor | range
"""An ascending index of weights; a range of neighbours takes no memory."""


def as_index(index: WeightIndex) -> Tensor:
    """Return the index as a tensor (k,)."""
    return (
        torch.arange(index.start, index.stop, device="cpu") if isinstance(index, range) else index
    )


def slices(counts: Sequence[int]) -> tuple[slice, ...]:
    """Return consecutive slices of given lengths.

    >>> slices([2, 3])
    (slice(0, 2, None), slice(2, 5, None))
    """
    return tuple(slice(end - n, end) for end, n in zip(accumulate(counts), counts, strict=True))


def lengths(segments: Sequence[slice]) -> list[int]:
    """Return how many weights each slice holds."""
    return [segment.stop - segment.start for segment in segments]


def counts_in(mask: Tensor, segments: Sequence[slice]) -> list[int]:
    """Return how many weights of each slice the mask (p,) keeps."""
    return [int(mask[segment].count_nonzero()) for segment in segments]


def owners(index: Tensor, segments: Sequence[slice]) -> Tensor:
    """Return in which of consecutive slices each of the weights of an index (k,) lies.

    >>> owners(torch.tensor([0, 3, 4]), (slice(0, 2), slice(2, 6)))
    tensor([0, 1, 1])
    """
    ends = torch.tensor([segment.stop for segment in segments], device=index.device)
    return torch.bucketize(index, ends, right=True)


def segments_of(index: WeightIndex, segments: tuple[slice, ...]) -> tuple[slice, ...]:
    """Return where consecutive slices of the flat vector lie within an ascending index (k,).

    >>> segments_of(torch.tensor([0, 3, 4]), (slice(0, 2), slice(2, 6)))
    (slice(0, 1, None), slice(1, 3, None))
    """
    if not segments:
        return ()
    if isinstance(index, range):
        ends = [s.start for s in segments] + [segments[-1].stop]
        inside = [min(max(end - index.start, 0), len(index)) for end in ends]
        return tuple(slice(a, b) for a, b in pairwise(inside))
    bounds = torch.tensor([s.start for s in segments] + [segments[-1].stop], device=index.device)
    return tuple(slice(a, b) for a, b in pairwise(torch.searchsorted(index, bounds).tolist()))
