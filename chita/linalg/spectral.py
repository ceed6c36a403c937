"""Largest eigenvalue of a symmetric positive semi-definite operator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_PRODUCTS = 20  # at most
_TOLERANCE = 0.01  # relative change of the estimate at which the iteration stops


def largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Return an estimate from below by power iteration.

    Args:
        apply: v (p,) to H v (p,), H symmetric positive semi-definite.
        start: first vector (p,), not orthogonal to the leading eigenvector.

    Returns:
        The last norm of H v over unit v; zero when H v vanishes.

    >>> largest_eigenvalue(lambda v: 3 * v, torch.ones(4))
    3.0
    """
    estimate = 0.0
    v = start
    for _ in range(_PRODUCTS):
        norm = float(torch.linalg.vector_norm(v))
        if norm == 0:
            return 0.0
        v = apply(v / norm)
        previous, estimate = estimate, float(torch.linalg.vector_norm(v))
        if abs(estimate - previous) <= _TOLERANCE * estimate:
            break
    return estimate
