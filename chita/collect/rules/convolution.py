"""Convolutions: products of output gradients with the windows of the input that they saw."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chita.collect.rules.linear import Gradients

_WINDOWS = 1 << 20  # entries of windows copied at a time: they stay in cache


def convolution(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.Conv1d` to `nn.Conv3d`, with stride, padding of any mode, dilation and groups."""
    layer = cast(nn.Conv2d, module)
    spread = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    weight = _products(delta, inputs, layer, spread, mode, rows)
    return {"weight": weight, "bias": _over_positions(delta, rows)}


def transposed_convolution(
    module: nn.Module, inputs: Tensor, delta: Tensor, rows: int
) -> Gradients:
    """`nn.ConvTranspose1d` to `3d`: the roles of input and output gradient exchanged."""
    layer = cast(nn.ConvTranspose2d, module)
    spread = [cast(int, p) for padding in reversed(layer.padding) for p in (padding, padding)]
    weight = _products(inputs, delta, layer, spread, "constant", rows)
    return {"weight": weight, "bias": _over_positions(delta, rows)}


def _products(
    centres: Tensor, seen: Tensor, layer: nn.Module, spread: list[int], mode: str, rows: int
) -> Tensor:
    """For every row the sum over samples and positions of centres ⊗ window, (r, *weight shape).

    `seen`, padded by `spread`, holds the windows: one for every position of `centres`.
    """
    conv = cast(nn.Conv2d, layer)
    samples = len(centres) // rows
    found = centres.new_empty(rows, *conv.weight.shape)
    positions = centres[0, 0].numel()
    window = conv.weight[0].numel() * conv.groups
    step = max(1, _WINDOWS // (positions * window * samples))
    for start in range(0, rows, step):
        part = slice(start * samples, (start + step) * samples)
        here = centres[part]
        columns = _windows(_padded(seen[part], spread, mode), conv, here.shape[2:], samples)
        grouped = here.reshape(-1, samples, conv.groups, here.shape[1] // conv.groups, positions)
        product = grouped.movedim(1, 3).flatten(3) @ columns  # (r, g, centres, window·channels)
        channels_last = product.view(*product.shape[:3], *conv.kernel_size, -1)
        shaped = channels_last.movedim(-1, 3).reshape(-1, *conv.weight.shape)
        found[start : start + step] = shaped
    return found


def _padded(seen: Tensor, spread: list[int], mode: str) -> Tensor:
    """Padded, with the channels last: neighbours in a window then lie side by side."""
    if mode != "constant":
        seen, spread = F.pad(seen, spread, mode=mode), [0] * len(spread)
    last = seen.movedim(1, -1)
    if not any(spread):
        return last.contiguous()
    pairs = list(zip(spread[-2::-2], spread[-1::-2], strict=True))  # by dimension, first to last
    sizes = [s + a + b for s, (a, b) in zip(seen.shape[2:], pairs, strict=True)]
    padded = seen.new_zeros(len(seen), *sizes, seen.shape[1])
    inside = tuple(slice(a, a + s) for s, (a, _) in zip(seen.shape[2:], pairs, strict=True))
    padded[(slice(None), *inside)] = last
    return padded


def _windows(padded: Tensor, conv: nn.Conv2d, sizes: torch.Size, samples: int) -> Tensor:
    """(r, groups, samples of a row times positions, window times channels of a group)."""
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
    seen = padded.as_strided(shape, steps)
    return seen.reshape(rows, conv.groups, samples * sizes.numel(), -1)


def _over_positions(delta: Tensor, rows: int) -> Tensor:
    """Sums over the samples of a row and all positions, (r, channels)."""
    return delta.reshape(rows, -1, *delta.shape[1:]).flatten(3).sum((1, 3))
