"""(H + λI)⁻¹ of a problem: its diagonal and its products, without the matrix where p is large."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from chita.errors import InputError, NumericalError
from chita.linalg.cholesky import cholesky, solve
from chita.problem.gradient_gram import GradientGram
from chita.problem.quadratic import LocalQuadratic

_CHUNK = 256  # weights whose leverages are computed at a time


class Inverse(ABC):
    """(H + λI)⁻¹, (p, p), in float64; λ is the problem's ridge."""

    @property
    @abstractmethod
    def diagonal(self) -> Tensor:
        """Its diagonal (p,), positive."""

    @abstractmethod
    def times(self, u: Tensor) -> Tensor:
        """Return its product with u (p,)."""


def inverse_of(problem: LocalQuadratic) -> Inverse:
    """Return the inverse for a `GradientGram`, through the smaller of p x p and n x n systems.

    Raises `InputError` for another curvature, or without a ridge where there are fewer rows than
    weights, and `NumericalError` when the smaller system is not positive definite.
    """
    curvature = problem.curvature
    if not isinstance(curvature, GradientGram):
        raise InputError(f"{type(curvature).__name__} has no inverse here; give a GradientGram.")
    if curvature.size <= curvature.num_rows:
        return _WeightInverse(problem)
    if problem.ridge == 0:
        raise InputError(
            f"`ridge` is 0 with {curvature.num_rows:,} rows of {curvature.size:,} weights, so H "
            "has no inverse. Give a `ridge` above zero, or more gradients than weights."
        )
    return _RowInverse(curvature, problem.ridge)


def positive(diagonal: Tensor) -> Tensor:
    """Return the diagonal of an inverse; raise `NumericalError` where rounding left no sign."""
    if bool((diagonal > 0).all()):
        return diagonal
    raise NumericalError(
        "Rounding leaves the diagonal of the inverse without a sign. Raise `ridge` (for example "
        'ridge="0.1x").'
    )


class _WeightInverse(Inverse):
    """Through the factor of H + λI itself."""

    def __init__(self, problem: LocalQuadratic) -> None:
        index = torch.arange(problem.curvature.size, device=problem.w_bar.device)
        matrix = problem.curvature.block(index)
        matrix.diagonal().add_(problem.ridge)
        self._triangle = cholesky(matrix)

    @property
    def diagonal(self) -> Tensor:
        # No difference of large terms: p <= n leaves H + λI small enough to be formed.
        return positive(torch.cholesky_inverse(self._triangle).diagonal().clone())

    def times(self, u: Tensor) -> Tensor:
        return solve(self._triangle, u.double())


class _RowInverse(Inverse):
    """Woodbury: (I - Aᵀ(AAᵀ + nλI)⁻¹A)/λ.

    The difference loses as many digits as λ is below the largest eigenvalue of H, of those that the
    rows' type has: seven for float32.
    """

    def __init__(self, curvature: GradientGram, ridge: float) -> None:
        self._curvature, self._ridge = curvature, ridge
        device = curvature.diagonal().device
        self._index = torch.arange(curvature.size, device=device)
        self._factor = curvature.factor(self._index)

    @property
    def diagonal(self) -> Tensor:
        # Written in place: small results between large ones would leave memory in fragments.
        leverages = torch.empty(len(self._index), dtype=torch.float64, device=self._index.device)
        for chunk in self._index.split(_CHUNK):
            leverages[chunk] = self._factor.cross(chunk, self._ridge).diagonal()
        # [(H + λI)⁻¹]_jj = (1 - a_jᵀ(AAᵀ + nλI)⁻¹a_j)/λ, where a weight's leverage is taken from 1.
        return positive((1 - leverages) / self._ridge)

    def times(self, u: Tensor) -> Tensor:
        u = u.double()
        # `left` is nλ(AAᵀ + nλI)⁻¹Au, so its pullback over λ is Aᵀ(AAᵀ + nλI)⁻¹Au.
        _, left = self._factor.solve(self._curvature.image(u), self._ridge)
        return (u - self._curvature.pullback(left, exact=True) / self._ridge) / self._ridge
