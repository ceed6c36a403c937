"""Convolutions: products of output gradients with the windows of the input that they saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from chita.linalg.windows import Windows


def convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.Conv1d` to `nn.Conv3d`.

    With stride, padding of any mode, dilation and groups.
    """
    if attribute == "bias":
        return _over_positions(delta, rows)
    layer, inputs = windows_of(module, inputs)
    return layer.products(delta, inputs, rows)


def transposed_convolution(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.ConvTranspose1d` to `3d`.

    The roles of input and output gradient are exchanged.
    """
    if attribute == "bias":
        return _over_positions(delta, rows)
    return transposed_windows_of(module).products(inputs, delta, rows)


def windows(module: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """Iterate over the windows that a convolution sees, (groups, positions of some samples, d).

    Blocks of samples follow each other. Entries are in the order of the weight, (inputs of a
    group, *kernel).
    """
    layer, inputs = windows_of(module, inputs)
    return layer.blocks(inputs)


def windows_of(module: nn.Module, inputs: Tensor) -> tuple[Windows, Tensor]:
    """Return how the windows of a convolution lie, and its input, padded unless by zeros."""
    layer = cast(nn.Conv2d, module)
    spread = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        inputs, spread = F.pad(inputs, spread, mode=layer.padding_mode), [0] * len(spread)
    return _laid(layer, spread), inputs


def transposed_windows_of(module: nn.Module) -> Windows:
    """Return how the windows of a transposed convolution lie on its output."""
    layer = cast(nn.ConvTranspose2d, module)
    spread = [cast(int, p) for padding in reversed(layer.padding) for p in (padding, padding)]
    return _laid(layer, spread)


def _laid(layer: nn.Conv2d | nn.ConvTranspose2d, spread: list[int]) -> Windows:
    return Windows(
        groups=layer.groups,
        kernel=layer.kernel_size,
        stride=layer.stride,
        dilation=layer.dilation,
        spread=tuple(spread),
    )


def _over_positions(delta: Tensor, rows: int) -> Tensor:
    """Return sums over the samples of a row and all positions, (r, channels)."""
    return delta.reshape(rows, -1, *delta.shape[1:]).flatten(3).sum((1, 3))
