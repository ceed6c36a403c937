"""One sample in five for evaluation, where data come without evaluation samples."""

from __future__ import annotations

import torch
from torch import Tensor

from chita.errors import InputError

_SHARE = 5


def shuffled_split(count: int) -> tuple[Tensor, Tensor]:
    """Return the indices of samples for calibration and for evaluation.

    The same shuffle in every run. Raises `InputError` below five samples.
    """
    if count < _SHARE:
        raise InputError(
            f"{count} samples are too few to hold one in {_SHARE} out for evaluation. Give more."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0), device="cpu")
    return order[count // _SHARE :].sort().values, order[: count // _SHARE].sort().values


def split_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines for calibration and, the last ones, for evaluation: text keeps its order."""
    cut = len(lines) - len(lines) // _SHARE
    return lines[:cut], lines[cut:]
