"""Norms in eval mode: output gradients times normalised inputs."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


def layer_norm(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.LayerNorm`."""
    layer = cast(nn.LayerNorm, module)
    if attribute == "weight":
        delta = delta * F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    return delta.reshape(rows, -1, *layer.normalized_shape).sum(1)


def rms_norm(module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int) -> Tensor:
    """Return row gradients of `nn.RMSNorm`, which has no bias."""
    layer = cast(nn.RMSNorm, module)
    normal = F.rms_norm(inputs, layer.normalized_shape, eps=layer.eps)
    return (delta * normal).reshape(rows, -1, *layer.normalized_shape).sum(1)


def group_norm(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.GroupNorm`."""
    layer = cast(nn.GroupNorm, module)
    if attribute == "weight":
        delta = delta * F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    return _over_channels(delta, rows)


def batch_norm(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.BatchNorm1d` to `3d` with running statistics, in eval mode."""
    layer = cast(nn.BatchNorm2d, module)
    if attribute == "weight":
        mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
        shape = (-1, *[1] * (inputs.ndim - 2))
        scale = (variance + layer.eps).rsqrt().view(shape)
        delta = delta * (inputs - mean.view(shape)) * scale
    return _over_channels(delta, rows)


def _over_channels(tensor: Tensor, rows: int) -> Tensor:
    """Return sums over all but the channels, dimension 1, (r, channels)."""
    return tensor.reshape(rows, -1, tensor.shape[1], tensor[0, 0].numel()).sum((1, 3))
