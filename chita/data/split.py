"""A part of the samples held out for evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from chita.errors import InputError

_SHARE = 5


def held_out(count: int) -> tuple[Tensor, Tensor]:
    """Return the indices for calibration and for evaluation, which is one sample in five.

    The same shuffle in every run. Raises `InputError` below five samples.
    """
    if count < _SHARE:
        raise InputError(
            f"{count} samples are too few to hold one in {_SHARE} out for evaluation. Give more."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[count // _SHARE :].sort().values, order[: count // _SHARE].sort().values
