"""Values stored in half as many bits or fewer: rounded to the nearest, with the same zeros."""

from __future__ import annotations

import torch
from torch import Tensor

_SIGNED = {4: torch.int32, 8: torch.int64}  # integers by their width
_MAGNITUDE = 0x7FFF  # all bits but the sign, of 16


def unfit(tensor: Tensor, narrow: torch.dtype) -> int:
    """Return how many numbers are NaN, or finite and above the narrow type's largest number.

    Infinities are exact in both.
    """
    numbers = tensor.abs()
    fits = (numbers <= torch.finfo(narrow).max) | torch.isinf(numbers)
    return numbers.numel() - int(torch.count_nonzero(fits))


def narrowed(values: Tensor, narrow: torch.dtype) -> tuple[Tensor, int]:
    """Return values (n,) rounded to the nearest, ties to even, and how many of them were raised.

    What would round to zero, and is not, is raised to the smallest number of its sign, so that the
    same places are zero as before. From float64 the rounding is by way of float32.
    """
    found = values.float().to(narrow).view(torch.int16)
    # By bits, without the sign: a processor may be set to take the tiniest numbers for zero.
    present = (values.view(_SIGNED[values.itemsize]) << 1) != 0
    raised = present & ((found & _MAGNITUDE) == 0)
    return (found | raised).view(narrow), int(torch.count_nonzero(raised))
