"""Whether a layer computes Wx + b, asked of its own inputs and outputs rather than of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chita.models.roles import CONVOLUTIONS, is_conv1d

_TOKENS, _SAMPLES = 16, 2  # that are compared in a call, of a linear layer and of a convolution
_ROUNDING = 0.02  # share by which Wx may differ, as it does in half types and TF32


def plain_layer(module: nn.Module, inputs: Any) -> Callable[[Any], bool] | None:
    """Return what says whether the outputs of this call are Wx + b, but for rounding.

    Some inputs, spread over the call, are multiplied now: the layer may write into them. None where
    they are nothing that the weight could be multiplied by.

    >>> layer, x = nn.Linear(3, 2), torch.ones(5, 3)
    >>> is_plain = plain_layer(layer, x)
    >>> is_plain(layer(x)), is_plain(layer(x).relu() + 1)
    (True, False)
    """
    weight: Any = module.weight
    inner = len(module.kernel_size) + 1 if isinstance(module, CONVOLUTIONS) else 1
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.ndim < inner:
        return None
    outer = inputs.shape[: inputs.ndim - inner]
    x = _some(inputs.detach(), inner)
    try:
        product, bias = _product(module, x.to(weight.dtype)), _bias(module, inner)
    except Exception:  # noqa: BLE001 (inputs that do not fit it: it makes others of them)
        return None
    expected = product if bias is None else product + bias
    size = float(x.float().norm() * weight.detach().norm())

    def is_plain(outputs: Any) -> bool:
        if not isinstance(outputs, Tensor) or outputs.shape[: outputs.ndim - inner] != outer:
            return False
        found = _some(outputs.detach(), inner)
        if found.shape != expected.shape:
            return False
        precision = max(torch.finfo(t.dtype).eps for t in (inputs, weight, outputs))
        same = (found == expected) | (found.isnan() & expected.isnan())
        off = torch.where(same, 0, found - expected).float().norm()
        allowed = _ROUNDING * product.float().norm() + precision * expected.float().norm()
        return bool(off <= allowed + 1e-6 * size)

    return is_plain


def _some(tensor: Tensor, inner: int) -> Tensor:
    """A few of the tensors of `inner` dimensions that a tensor consists of, spread over it."""
    outer = tensor.shape[: tensor.ndim - inner]
    if not outer:
        return tensor.unsqueeze(0)
    count, most = outer.numel(), _TOKENS if inner == 1 else _SAMPLES
    places = torch.linspace(
        0, max(count - 1, 0), min(count, most), dtype=torch.float32, device=tensor.device
    ).long()
    return tensor[torch.unravel_index(places, outer)]


def _product(module: nn.Module, x: Tensor) -> Tensor:
    weight: Any = module.weight
    kind: Any = next((kind for kind in CONVOLUTIONS if isinstance(module, kind)), None)
    if kind is not None:
        product: Tensor = kind._conv_forward(module, x, weight, None)  # that of PyTorch's own class
        return product
    return x @ weight if is_conv1d(module) else functional.linear(x, weight)


def _bias(module: nn.Module, inner: int) -> Tensor | None:
    bias = module.bias
    return bias.view(-1, *[1] * (inner - 1)) if isinstance(bias, Tensor) else None
