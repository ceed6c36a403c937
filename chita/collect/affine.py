"""Batch norms in eval mode, differentiated as affine maps of every channel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chita.models.mode import forward_replaced

_FORWARD = nn.modules.batchnorm._BatchNorm.forward


@contextmanager
def affine_norms(model: nn.Module) -> Iterator[None]:
    """Differentiate batch norms with running statistics by their inputs only, for a block.

    What passes is the same. The backward pass is one product per entry; torch's own keeps the
    input, and sums over it for gradients that are not used, in three times the time.
    """
    with ExitStack() as stack:
        for module in model.modules():
            plain = type(module).forward is _FORWARD and "forward" not in vars(module)
            if plain and module.running_mean is not None:
                stack.enter_context(forward_replaced(module, partial(_apply, module)))
        yield


def _apply(norm: nn.Module, x: Tensor) -> Tensor:
    return cast(Tensor, cast(Any, _Affine).apply(x, norm))


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.Module) -> Tensor:
        layer = cast(nn.BatchNorm2d, norm)
        layer._check_input_dim(x)
        variance = cast(Tensor, layer.running_var)
        scale = (variance + layer.eps).rsqrt()
        ctx.save_for_backward(scale if layer.weight is None else scale * layer.weight)
        return F.batch_norm(
            x, layer.running_mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps
        )

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[Tensor, None]:
        (delta,) = deltas
        (scale,) = ctx.saved_tensors
        return delta * scale.to(delta.dtype).view(-1, *[1] * (delta.ndim - 2)), None
