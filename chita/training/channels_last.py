"""The order of image data in memory in which convolutions train fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from chita import nested
from chita.losses import Loss
from chita.models.mode import inference


def trains_in_channels_last(network: nn.Module, loss: Loss, batch: Any) -> bool:
    """Return whether a network has convolutions and runs with channels last in memory.

    (ResNet20's epochs take three quarters of the time so, on two cores.) Networks that look at
    strides, as those do that call `view` on what a convolution gives, do not run so.
    """
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        return False
    try:
        with inference(network), channels_last(network):
            loss.mean(network, in_channels_last(batch))
    except Exception:  # noqa: BLE001 (a forward pass is the user's code and may raise anything)
        return False
    return True


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Hold a network's weights with channels last for a block."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def in_channels_last(batch: Any) -> Any:
    """Return a copy of a batch with the channels of its images last in memory."""
    return nested.copied(batch, _copied)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.clone(
        memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    )
