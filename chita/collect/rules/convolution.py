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
    """Return row gradients of `nn.Conv1d` to `nn.Conv3d`.

    With stride, padding of any mode, dilation and groups.
    """
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer = cast(nn.Conv2d, module)
    inputs, spread = _spread(layer, inputs)
    return _products(delta, inputs, layer, spread, rows)


def transposed_convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.ConvTranspose1d` to `3d`.

    The roles of input and output gradient are exchanged.
    """
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer = cast(nn.ConvTranspose2d, module)
    spread = [cast(int, p) for padding in reversed(layer.padding) for p in (padding, padding)]
    return _products(inputs, delta, layer, spread, rows)


def _spread(layer: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """Return the input, padded unless by zeros, and the zeros that are to come around it."""
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
    sizes = torch.Size(
        (size + before + after - apart * (k - 1) - 1) // step + 1
        for size, before, after, k, step, apart in zip(
            inputs.shape[2:],
            *(spread[-2::-2], spread[-1::-2]),
            *(layer.kernel_size, layer.stride, layer.dilation),
            strict=True,
        )
    )
    width = layer.groups * layer.weight[0].numel()
    for _, padded in _padded(inputs, spread, sizes.numel() * width):
        found = _windows(padded, layer, sizes).movedim(1, 0).flatten(1, -2)
        yield found.unflatten(2, (-1, layer.weight.shape[1])).mT.flatten(2)


def _products(
    centres: Tensor, seen: Tensor, layer: nn.Module, spread: list[int], rows: int
) -> Tensor:
    """Return for every row the sum of centres ⊗ window, (r, *weight shape).

    With c the centres and x̃ what is `seen` with zeros around it, for sample b, entry t of the
    kernel, stride s and dilation d, over positions q,

        G_b[o, i, t] = Σ_q c_b[o, q] x̃_b[i, s·q + d·t],

    a product of matrices for each group: centres (out, positions) and windows (positions, width).
    Channels come last, so that neighbours in a window lie side by side.
    """
    conv = cast(nn.Conv2d, layer)
    groups, sizes = conv.groups, centres.shape[2:]
    out, inner = centres.shape[1] // groups, seen.shape[1] // groups
    # One product for each entry of the kernel's first dimension copies less (`_slices`), ...
    slices, width = conv.kernel_size[0], conv.weight[0, 0, 0].numel() * inner
    # ... but whole windows at a time are faster where copies cost little beside their products,
    # or where products with slices would be too narrow to be fast.
    if out >= _MANY or width < _NARROW:
        slices, width = 1, slices * width
    found = centres.new_empty(slices, len(seen), groups, out, width)
    for part, padded in _padded(seen, spread, sizes.numel() * groups * width):
        # Centres by sample and group, (samples · groups, out, positions).
        own = centres[part].movedim(1, -1).reshape(len(padded), -1, groups, out)
        own = own.permute(0, 2, 3, 1).flatten(0, 1)
        # Windows by sample and group, (samples · groups, positions, width): G_b, or its slices.
        whole = slices == 1
        copies = [_windows(padded, conv, sizes)] if whole else _slices(padded, conv, sizes)
        for k, columns in enumerate(copies):
            torch.bmm(own, columns.flatten(2, -2).flatten(0, 1), out=found[k, part].flatten(0, 1))
    # (slices, r, m, out channels, *rest of the kernel, inner): the sum over a row's m samples, ...
    kernel = (conv.kernel_size[0] // slices, *conv.kernel_size[1:])
    found = found.view(slices, rows, -1, groups * out, *kernel, inner)
    summed = found.squeeze(2) if found.shape[2] == 1 else found.sum(2)
    # ... then the order of the weight: channels before the kernel, slices its first dimension.
    return summed.movedim((0, -1), (3, 2)).flatten(3, 4)


def _padded(seen: Tensor, spread: list[int], entries: int) -> Iterator[tuple[slice, Tensor]]:
    """Iterate over blocks of samples: their place, and these with zeros around, channels last.

    A sample has so many `entries` of windows; those of a block stay in cache. All blocks share one
    buffer, whose zeros are written once.
    """
    block = max(1, _COPIED // entries)
    before, after = spread[-2::-2], spread[-1::-2]  # by dimension, first to last
    sizes = seen.shape[2:]
    whole = [s + a + b for s, a, b in zip(sizes, before, after, strict=True)]
    inside = (slice(None), *(slice(a, a + s) for s, a in zip(sizes, before, strict=True)))
    buffer = seen.new_zeros(min(block, len(seen)), *whole, seen.shape[1])
    for start in range(0, len(seen), block):
        part = slice(start, start + block)
        padded = buffer[: len(seen[part])]
        padded[inside] = seen[part].movedim(1, -1)
        yield part, padded


def _windows(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size) -> Tensor:
    """Return all windows, (samples, groups, *positions, entries of a window)."""
    return _copied(padded, conv.groups, sizes, conv.stride, conv.kernel_size, conv.dilation)


def _slices(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size) -> Iterator[Tensor]:
    """Iterate over the slices of all windows at each entry of the kernel's first dimension.

    Slices whose lines of the input lie a multiple of the stride apart are views of one copy, in
    which windows are made over the other dimensions only: less to copy.
    """
    (step, *steps), (apart, *rest) = conv.stride, conv.dilation
    # Entry k sees the lines s·q + d·k = s·(q + first) + residue: a shift by `first` positions of
    # the copy of this residue.
    places = [divmod(apart * k, step) for k in range(conv.kernel_size[0])]
    copies = {}
    for residue in {r for _, r in places}:
        # As many lines as the largest shift needs.
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
    """Return windows at every position, (samples, groups, *sizes, entries of a window)."""
    batch, *strides, channel = padded.stride()
    inner = padded.shape[-1] // groups
    # A view with an index for position and one for kernel entry: x̃[s·q + d·t] lies s and d times
    # the stride in memory apart. Only the copy after it takes memory.
    shape = (len(padded), groups, *sizes, *kernel, inner)
    moves = (*map(mul, strides, steps), *map(mul, strides, apart))
    windows = padded.as_strided(shape, (batch, inner * channel, *moves, channel))
    return windows.contiguous().view(*shape[: 2 + len(sizes)], -1)


def _over_positions(delta: Tensor, rows: int) -> Tensor:
    """Return sums over the samples of a row and all positions, (r, channels)."""
    return delta.reshape(rows, -1, *delta.shape[1:]).flatten(3).sum((1, 3))
