"""Norms in eval mode: output gradients times normalised inputs."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chita.collect.rules.linear import Gradients


def layer_norm(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.LayerNorm`."""
    layer = cast(nn.LayerNorm, module)
    return _last(F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps), layer, delta, rows)


def rms_norm(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.RMSNorm`."""
    layer = cast(nn.RMSNorm, module)
    return _last(F.rms_norm(inputs, layer.normalized_shape, eps=layer.eps), layer, delta, rows)


def group_norm(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.GroupNorm`."""
    layer = cast(nn.GroupNorm, module)
    return _channels(F.group_norm(inputs, layer.num_groups, eps=layer.eps), delta, rows)


def batch_norm(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.BatchNorm1d` to `3d` with running statistics, in eval mode."""
    layer = cast(nn.BatchNorm2d, module)
    mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
    shape = (-1, *[1] * (inputs.ndim - 2))
    scale = (variance + layer.eps).rsqrt().view(shape)
    return _channels((inputs - mean.view(shape)) * scale, delta, rows)


def _last(normal: Tensor, layer: nn.Module, delta: Tensor, rows: int) -> Gradients:
    """Sums over all but the last dimensions, those that are normalised."""
    shape = cast(nn.LayerNorm, layer).normalized_shape
    flat = (rows, -1, *shape)
    return {"weight": (delta * normal).reshape(flat).sum(1), "bias": delta.reshape(flat).sum(1)}


def _channels(normal: Tensor, delta: Tensor, rows: int) -> Gradients:
    """Sums over all but the channels, dimension 1."""

    def summed(t: Tensor) -> Tensor:
        parts = t.reshape(rows, -1, t.shape[1], *t.shape[2:])
        return torch.einsum("rmcl->rc", parts.flatten(3) if t.ndim > 2 else parts.unsqueeze(3))

    return {"weight": summed(delta * normal), "bias": summed(delta)}
