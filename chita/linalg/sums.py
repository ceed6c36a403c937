"""Sums over all weights, accumulated in float64."""

from __future__ import annotations

from torch import Tensor

_BLOCK = 1 << 20  # entries promoted to float64 at a time


def dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of a (p,) and b (p,), accumulated in float64.

    >>> import torch
    >>> dot(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    11.0
    """
    # Block by block, since a float64 copy of float32 weights would take twice their memory.
    blocks = zip(a.split(_BLOCK), b.split(_BLOCK), strict=True)
    return sum((float(x.double() @ y.double()) for x, y in blocks), 0.0)


def total(a: Tensor) -> float:
    """Return the sum of a (p,), accumulated in float64.

    >>> import torch
    >>> total(torch.tensor([0.5, 2.0]))
    2.5
    """
    return sum((float(x.double().sum()) for x in a.split(_BLOCK)), 0.0)
