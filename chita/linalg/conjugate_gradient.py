"""Conjugate gradients with a preconditioner, for systems close to one that was factored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    tolerance: float,
    limit: int,
) -> tuple[Tensor, Tensor] | None:
    """Solve M x = b for a symmetric positive definite M (n, n) of which only products are known.

    Args:
        product: v ↦ M v, (n,).
        b: (n,).
        precondition: v ↦ P⁻¹ v, (n,), for a symmetric positive definite P near M.
        tolerance: the end, in ‖b - M x‖/‖b‖.
        limit: steps at most.

    Returns:
        x (n,) and b - M x (n,), None where the limit is reached or a product is not positive.

    >>> twice = torch.tensor([2.0, 4.0])
    >>> conjugate_gradient(lambda v: 2 * v, twice, lambda v: v, tolerance=1e-6, limit=5)[0]
    tensor([1., 2.])
    """
    x, left = torch.zeros_like(b), b.clone()
    enough = tolerance * float(b.norm())
    direction, slope = torch.zeros_like(b), 1.0
    for _ in range(limit):
        if float(left.norm()) <= enough:
            return x, left
        conditioned = precondition(left)
        before, slope = slope, float(left @ conditioned)
        direction = conditioned + (slope / before) * direction
        image = product(direction)
        bend = float(direction @ image)
        if not bend > 0:  # nor NaN
            return None
        x = x + (slope / bend) * direction
        left = left - (slope / bend) * image
    return (x, left) if float(left.norm()) <= enough else None
