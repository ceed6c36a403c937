"""Convolutions: products of output gradients with the windows of the input that they saw."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WINDOWS = 1 << 20  # entries of windows copied at a time: they stay in cache


def convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """`nn.Conv1d` to `nn.Conv3d`, with stride, padding of any mode, dilation and groups."""
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer = cast(nn.Conv2d, module)
    spread = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        inputs, spread = F.pad(inputs, spread, mode=layer.padding_mode), [0] * len(spread)
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


def _products(
    centres: Tensor, seen: Tensor, layer: nn.Module, spread: list[int], rows: int
) -> Tensor:
    """For every row the sum over samples and positions of centres ⊗ window, (r, *weight shape).

    `seen`, with zeros around it, holds the windows: one for every position of `centres`. Channels
    come last, so that neighbours in a window lie side by side, and blocks of rows share buffers.
    """
    conv = cast(nn.Conv2d, layer)
    samples, groups, sizes = len(centres) // rows, conv.groups, centres.shape[2:]
    window = conv.weight[0, 0].numel() * (seen.shape[1] // groups)
    length = samples * sizes.numel()
    step = min(rows, max(1, _WINDOWS // (length * groups * window)))
    padded, inside = _room(seen, spread, step * samples)
    columns = centres.new_empty(step, groups, length, window)
    found = centres.new_empty(rows, groups, centres.shape[1] // groups, window)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        part = slice(start * samples, (start + count) * samples)
        padded[: count * samples][inside] = seen[part].movedim(1, -1)
        views = _windows(padded[: count * samples], conv, sizes, samples)
        columns[:count].view(views.shape).copy_(views)
        here = centres[part].reshape(count, samples, groups, -1, *sizes)
        torch.bmm(
            here.movedim(1, 3).flatten(3).flatten(0, 1),
            columns[:count].flatten(0, 1),
            out=found[start : start + count].flatten(0, 1),
        )
    shape = (rows, centres.shape[1], *conv.kernel_size, seen.shape[1] // groups)
    return found.view(shape).movedim(-1, 2)


def _room(seen: Tensor, spread: list[int], count: int) -> tuple[Tensor, tuple[slice, ...]]:
    """Zeros for `count` padded samples, channels last, and where the samples lie in them."""
    before, after = spread[-2::-2], spread[-1::-2]  # by dimension, first to last
    sizes = seen.shape[2:]
    whole = [s + a + b for s, a, b in zip(sizes, before, after, strict=True)]
    inside = tuple(slice(a, a + s) for s, a in zip(sizes, before, strict=True))
    return seen.new_zeros(count, *whole, seen.shape[1]), (slice(None), *inside)


def _windows(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size, samples: int) -> Tensor:
    """(r, groups, samples of a row, *positions, *window, channels of a group), a view."""
    batch, *strides, channel = padded.stride()
    per_group = padded.shape[-1] // conv.groups
    rows = len(padded) // samples
    shape = (rows, conv.groups, samples, *sizes, *conv.kernel_size, per_group)
    steps = (
        samples * batch,
        per_group * channel,
        batch,
        *(s * d for s, d in zip(strides, conv.stride, strict=True)),
        *(s * d for s, d in zip(strides, conv.dilation, strict=True)),
        channel,
    )
    return padded.as_strided(shape, steps)


def _over_positions(delta: Tensor, rows: int) -> Tensor:
    """Sums over the samples of a row and all positions, (r, channels)."""
    return delta.reshape(rows, -1, *delta.shape[1:]).flatten(3).sum((1, 3))
