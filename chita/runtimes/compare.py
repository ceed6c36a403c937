"""Whether a network in a runtime gives the outputs of the network in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""By how much outputs may differ, unless said otherwise, as a share of the largest one."""


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """`value`, the largest difference as a share of the largest output; `output`, where it is."""

    output: str
    value: float

    def within(self, tolerance: float = TOLERANCE) -> bool:
        """Return whether it is at most so large."""
        return self.value <= tolerance


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Difference:
    """Return where outputs differ most.

    It is infinite where an output is missing, of another shape, or not finite where it should be.
    """
    worst = Difference(output="", value=0.0)
    for name, values in expected.items():
        value = _share(values.detach().cpu(), found[name]) if name in found else float("inf")
        if value > worst.value:
            worst = Difference(output=name, value=value)
    return worst


def _share(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    wanted, got = expected.double(), found.detach().cpu().double()
    same = (wanted == got) | (wanted.isnan() & got.isnan())  # so infinities agree with themselves
    gap = torch.where(same, 0.0, (wanted - got).abs()).nan_to_num(nan=torch.inf).max()
    largest = (
        wanted[wanted.isfinite()].abs().max() if wanted.isfinite().any() else wanted.new_ones(())
    )
    return float(gap / largest.clamp_min(torch.finfo(torch.float32).tiny))
