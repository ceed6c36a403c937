"""Comparison of a network's outputs in a runtime with those in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""The largest difference of outputs that is allowed by default; see `Difference`."""
_ROUNDINGS = 16  # of the outputs' type that are allowed in any case


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """The output that differs most, and by how much.

    Fields: `output`, its name; `value`, the largest difference of an entry, as a share of its own
    size and the median size of that output's entries together; `reason`, why they cannot be
    compared (the value is infinite then); `rounding`, what the type of that output allows.
    """

    output: str = ""
    value: float = 0.0
    reason: str = ""
    rounding: float = 0.0

    def within(self, tolerance: float = TOLERANCE) -> bool:
        """Return True if it is at most so large, or no larger than their type's roundings."""
        return self.value <= max(tolerance, self.rounding)


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Difference:
    """Return the largest difference of outputs. Dimensions of size one are not compared."""
    worst = Difference()
    for name, values in expected.items():
        if name not in found:
            return Difference(output=name, value=float("inf"), reason="it is missing")
        gap = _between(name, values.detach().cpu(), found[name].detach().cpu())
        if gap.value / max(gap.rounding, TOLERANCE) > worst.value / max(worst.rounding, TOLERANCE):
            worst = gap
    return worst


def _between(name: str, expected: Tensor, found: Tensor) -> Difference:
    if expected.squeeze().shape != found.squeeze().shape:
        shapes = f"its shape is {tuple(found.shape)}, not {tuple(expected.shape)}"
        return Difference(output=name, value=float("inf"), reason=shapes)
    kind = expected.dtype
    rounding = _ROUNDINGS * torch.finfo(kind).eps if kind.is_floating_point else 0.0
    wanted, got = expected.squeeze().double(), found.squeeze().double()
    sizes = wanted.abs()[wanted.isfinite() & (wanted != 0)]
    typical = float(sizes.median()) if sizes.numel() else torch.finfo(torch.float32).tiny
    same = (wanted == got) | (wanted.isnan() & got.isnan())  # so infinities agree with themselves
    gap = torch.where(same, 0.0, (wanted - got).abs() / (wanted.abs() + typical))
    value = float(gap.nan_to_num(nan=torch.inf).max()) if gap.numel() else 0.0
    return Difference(output=name, value=value, rounding=rounding)
