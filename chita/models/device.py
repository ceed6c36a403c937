"""Networks on devices, and whether their values are sound."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from chita.errors import InputError, failures_as, first_line
from chita.models.tensors import is_plain


def usable_device(name: str) -> torch.device:
    """Return a device. Raises `InputError` where it cannot be used here."""
    ask = "Use the `device` cpu, or install a PyTorch build for this hardware."
    with failures_as(InputError, f"The device {name!r} cannot be used here", ask, why=first_line):
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float32, device=device).item()
    return device


def on_device(network: nn.Module, device: torch.device, name: str) -> nn.Module:
    """Return a network on a device; `name` is for messages.

    Raises `InputError` where it cannot be there, or has values that are not finite.
    """
    what = f"{name} cannot be brought to the device {device}"  # no memory there, no values here
    ask = "Give a network whose weights have values, or another `device`."
    with failures_as(InputError, what, ask, why=first_line):
        network = network.to(device)
    check_finite(name, dict(network.named_parameters()))
    return network


def check_finite(name: str, weights: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that lists the weights of a network with NaN or infinite values."""
    bad = [own for own, w in weights.items() if is_plain(w) and not bool(w.isfinite().all())]
    if bad:
        raise InputError(
            f"{name} has NaN or infinite values in: {', '.join(bad)}. Load sound weights, or train "
            "again."
        )
