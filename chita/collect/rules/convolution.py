"""Convolutions: products of output gradients with the windows of the input that they saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import mul
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_COPIED = 1 << 18  # entries of windows copied at a time: they stay in cache
_MANY = 64  # outputs, to multiply a window by, beside which copying it costs little
_NARROW = 32  # entries of a slice of a window, below which products of slices are slow


def convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """`nn.Conv1d` to `nn.Conv3d`, with stride, padding of any mode, dilation and groups."""
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer = cast(nn.Conv2d, module)
    inputs, spread = _spread(layer, inputs)
    return _products(delta, inputs, layer, spread, rows)


def transposed_convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """`nn.ConvTranspose1d` to `3d`: the roles of input and output gradient exchanged."""
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer = cast(nn.ConvTranspose2d, module)
    spread = [cast(int, p) for padding in reversed(layer.padding) for p in (padding, padding)]
    return _products(inputs, delta, layer, spread, rows)


def _spread(layer: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """The input with its padding where that is not of zeros, and the zeros that are to come."""
    spread = layer._reversed_padding_repeated_twice
    if layer.padding_mode == "zeros":
        return inputs, spread
    return F.pad(inputs, spread, mode=layer.padding_mode), [0] * len(spread)


def windows(module: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """Iterate over the windows that a convolution sees, (groups, positions of some samples, d).

    Blocks of samples follow each other. Entries are in the order of the weight, (inputs of a
    group, *kernel).
    """
    layer = cast(nn.Conv2d, module)
    inputs, spread = _spread(layer, inputs)
    whole = [
        size + before + after
        for size, before, after in zip(
            inputs.shape[2:], spread[-2::-2], spread[-1::-2], strict=True
        )
    ]
    sizes = torch.Size(
        (size - apart * (k - 1) - 1) // step + 1
        for size, k, step, apart in zip(
            whole, layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    )
    width = layer.weight[0].numel()
    block = max(1, _COPIED // (sizes.numel() * layer.groups * width))
    padded, inside = _room(inputs, spread, min(block, len(inputs)))
    for start in range(0, len(inputs), block):
        part = inputs[start : start + block]
        here = padded[: len(part)]
        here[inside] = part.movedim(1, -1)
        (seen,) = _windows(here, layer, sizes)
        found = seen.movedim(1, 0).flatten(1, -2)
        yield found.unflatten(2, (-1, layer.weight.shape[1])).mT.flatten(2)


def _products(
    centres: Tensor, seen: Tensor, layer: nn.Module, spread: list[int], rows: int
) -> Tensor:
    """For every row the sum over samples and positions of centres ⊗ window, (r, *weight shape).

    `seen`, with zeros around it, holds the windows: one for every position of `centres`. Channels
    come last, so that neighbours in a window lie side by side. Blocks of samples share buffers.
    """
    conv = cast(nn.Conv2d, layer)
    groups, sizes = conv.groups, centres.shape[2:]
    out, inner = centres.shape[1] // groups, seen.shape[1] // groups
    slices, width = conv.kernel_size[0], conv.weight[0, 0, 0].numel() * inner
    if out >= _MANY or width < _NARROW:
        slices, width = 1, slices * width
    block = max(1, _COPIED // (sizes.numel() * groups * width))
    padded, inside = _room(seen, spread, min(block, len(seen)))
    found = centres.new_empty(slices, len(seen), groups, out, width)
    for start in range(0, len(seen), block):
        part = slice(start, start + block)
        here = padded[: len(seen[part])]
        here[inside] = seen[part].movedim(1, -1)
        own = centres[part].movedim(1, -1).reshape(len(here), -1, groups, out)
        own = own.permute(0, 2, 3, 1).flatten(0, 1)
        for k, columns in enumerate((_windows if slices == 1 else _slices)(here, conv, sizes)):
            torch.bmm(own, columns.flatten(2, -2).flatten(0, 1), out=found[k, part].flatten(0, 1))
    kernel = (conv.kernel_size[0] // slices, *conv.kernel_size[1:])
    found = found.view(slices, rows, -1, groups * out, *kernel, inner)
    summed = found.squeeze(2) if found.shape[2] == 1 else found.sum(2)
    return summed.movedim((0, -1), (3, 2)).flatten(3, 4)


def _room(seen: Tensor, spread: list[int], count: int) -> tuple[Tensor, tuple[slice, ...]]:
    """Zeros for `count` padded samples, channels last, and where the samples lie in them."""
    before, after = spread[-2::-2], spread[-1::-2]  # by dimension, first to last
    sizes = seen.shape[2:]
    whole = [s + a + b for s, a, b in zip(sizes, before, after, strict=True)]
    inside = tuple(slice(a, a + s) for s, a in zip(sizes, before, strict=True))
    return seen.new_zeros(count, *whole, seen.shape[1]), (slice(None), *inside)


def _windows(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size) -> Iterator[Tensor]:
    """All windows, (samples, groups, *positions, entries of a window with their channels)."""
    yield _copied(padded, conv.groups, sizes, conv.stride, conv.kernel_size, conv.dilation)


def _slices(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size) -> Iterator[Tensor]:
    """The slice of all windows at each entry of the kernel's first dimension, one after another.

    Slices whose lines of the input lie a multiple of the stride apart are views of one copy, in
    which windows are made over the other dimensions alone: less to copy.
    """
    (step, *steps), (apart, *rest) = conv.stride, conv.dilation
    places = [divmod(apart * k, step) for k in range(conv.kernel_size[0])]
    copies = {}
    for residue in {r for _, r in places}:
        lines = sizes[0] + max(first for first, r in places if r == residue)
        copies[residue] = _copied(
            padded[:, residue:],
            conv.groups,
            (lines, *sizes[1:]),
            (step, *steps),
            (1, *conv.kernel_size[1:]),
            (1, *rest),
        )
    for first, residue in places:
        yield copies[residue][:, :, first : first + sizes[0]]


def _copied(
    padded: Tensor,
    groups: int,
    sizes: Sequence[int],
    steps: Sequence[int],
    kernel: Sequence[int],
    apart: Sequence[int],
) -> Tensor:
    """Windows of a kernel at every position, (samples, groups, *sizes, entries of a window)."""
    batch, *strides, channel = padded.stride()
    inner = padded.shape[-1] // groups
    shape = (len(padded), groups, *sizes, *kernel, inner)
    moves = (*map(mul, strides, steps), *map(mul, strides, apart))
    windows = padded.as_strided(shape, (batch, inner * channel, *moves, channel))
    return windows.contiguous().view(*shape[: 2 + len(sizes)], -1)


def _over_positions(delta: Tensor, rows: int) -> Tensor:
    """Sums over the samples of a row and all positions, (r, channels)."""
    return delta.reshape(rows, -1, *delta.shape[1:]).flatten(3).sum((1, 3))
