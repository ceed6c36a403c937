"""Networks on devices, and whether their values are sound."""

from __future__ import annotations

import torch
from torch import nn

from chita.errors import InputError


def usable_device(name: str) -> torch.device:
    """Return a device. Raises `InputError` where it cannot be used here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"The device {name!r} cannot be used here: {str(error).splitlines()[0]} Use the "
            "`device` cpu, or install a PyTorch build for this hardware."
        ) from None
    return device


def placed(network: nn.Module, device: torch.device, name: str) -> nn.Module:
    """Return a network on a device; `name` is for messages.

    Raises `InputError` where it cannot be there, or has values that are not finite.
    """
    try:
        network = network.to(device)
    except (RuntimeError, NotImplementedError) as error:  # no memory there, or no values here
        raise InputError(
            f"{name} cannot be brought to the device {device}: {str(error).splitlines()[0]} Give a "
            "network whose weights have values, or another `device`."
        ) from None
    bad = [
        own
        for own, weight in network.named_parameters()
        if not isinstance(weight, nn.UninitializedParameter)
        and not bool(torch.isfinite(weight).all())
    ]
    if bad:
        raise InputError(
            f"{name} has NaN or infinite values in: {', '.join(bad)}. Load sound weights, or train "
            "again."
        )
    return network
