"""Cholesky factorisation that says when it fails."""

from __future__ import annotations

import torch
from torch import Tensor

from chita.errors import NumericalError


def cholesky(matrix: Tensor) -> Tensor:
    """Return the lower factor L (..., m, m) of symmetric positive definite matrices L Lᵀ.

    Raises `NumericalError` when a matrix is not finite or not numerically positive definite.
    Nothing is added to a diagonal.

    >>> cholesky(torch.tensor([[4.0]]))
    tensor([[2.]])
    """
    factor: Tensor
    factor, status = torch.linalg.cholesky_ex(matrix)
    # A value that is not finite reaches the diagonal of its row.
    diagonals = factor.diagonal(dim1=-2, dim2=-1)
    if not bool(status.any()) and bool(torch.isfinite(diagonals).all()):
        return factor
    reason = (
        "holds values that are not finite"
        if not bool(torch.isfinite(matrix).all())
        else "is not positive definite"
    )
    size = matrix.shape[-1]
    raise NumericalError(
        f"The {size} x {size} system of the back-solve {reason}. Raise `ridge` (for "
        f'example ridge="0.1x"), or check the calibration data for repeated or constant samples.'
    )


def solve(factor: Tensor, b: Tensor) -> Tensor:
    """Return (L Lᵀ)⁻¹ b for b (m,).

    Two triangular solves: `torch.cholesky_solve` copies L before each, which takes longer.

    >>> solve(torch.tensor([[2.0]]), torch.tensor([8.0]))
    tensor([2.])
    """
    half = torch.linalg.solve_triangular(factor, b.unsqueeze(1), upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solution.squeeze(1)
