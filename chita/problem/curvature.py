"""The promises of a curvature: a symmetric positive semi-definite H (p, p), never formed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor


class Factor(ABC):
    """H_SS of one support S (k,), prepared so that one preparation serves many ridges."""

    @property
    def priced(self) -> bool:
        """True where `cross` costs less than the solve for a support nearby."""
        return True

    @abstractmethod
    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Minimise ½‖residual + image_S(x)‖² + (ridge/2)‖x‖² over x (k,).

        The norm is that of `Curvature.inner`.

        Returns:
            x = -(H_SS + ridge·I)⁻¹ pullback(residual)_S, shape (k,), and the residual that
            remains, residual + image_S(x), shape of the image.

        Raises:
            NumericalError: the system is not positive definite (possible only where ridge is
                zero or lost in rounding).
        """

    @abstractmethod
    def cross(self, index: Tensor, ridge: float) -> Tensor:
        """Return C = Jᵢᵀ(J_S J_Sᵀ + ridge·I)⁻¹Jᵢ for an index i (m,), (m, m) in float64.

        The diagonal of a kept weight is its leverage. With it the exact price of an exchange of
        weights is known without another solve. Raises `NumericalError` as `solve` does.
        """


class Curvature(ABC):
    """H = JᵀJ in the inner product of an image space in which solvers keep their residual.

    `image` is v ↦ J v, `pullback` its adjoint, so that H v = pullback(image(v)) and
    vᵀHv = inner(image(v), image(v)).

    Args:
        size: number of weights p.
        informed: something is known of the loss.
    """

    def __init__(self, size: int, *, informed: bool = True) -> None:
        self.size, self.informed = size, informed

    @abstractmethod
    def constant(self, value: float) -> Tensor:
        """Return the image-space vector filled with `value`, float64."""

    @abstractmethod
    def image(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return J v for v (p,), or J_S v for an index S (k,) and v (k,).

        A float64 v is multiplied in float64, any other in the type of the storage.
        """

    @abstractmethod
    def pullback(self, z: Tensor, support: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """Return the adjoint of `image` applied to z, (p,), or its entries at S, (k,).

        Multiplied in the type of the storage, or where `exact` in float64.
        """

    @abstractmethod
    def inner(self, a: Tensor, b: Tensor) -> float:
        """Return the inner product of two image-space vectors."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """Return the diagonal of H, (p,)."""

    @abstractmethod
    def block(self, index: Tensor) -> Tensor:
        """Return the entries of H between the weights named by index (k,), (k, k) in float64."""

    @abstractmethod
    def factor(self, support: Tensor, near: Factor | None = None) -> Factor:
        """Prepare H_SS for an ascending index S (k,).

        `near` is a factor of another support of the same curvature, which may be updated into a
        new one where that is cheaper. It stays valid.
        """

    @abstractmethod
    def restrict(self, index: Tensor) -> Curvature:
        """Return the curvature of the weights named by index (k,) only."""


@final
class NoCurvature(Curvature):
    """H = 0: nothing is known of the loss, and nothing was collected.

    For solvers that look at the weights only. Its image space has no dimension. `device` is that
    of the weights.

    >>> NoCurvature(3).diagonal()
    tensor([0., 0., 0.])
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        super().__init__(size, informed=False)
        self._device = device

    def constant(self, value: float) -> Tensor:
        """Return an empty vector."""
        return torch.full((0,), value, dtype=torch.float64, device=self._device)

    def image(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return an empty vector."""
        return v.new_empty(0)

    def pullback(self, z: Tensor, support: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """Return zeros (p,) or (k,)."""
        count = self.size if support is None else len(support)
        return torch.zeros(count, dtype=torch.float32, device=self._device)

    def inner(self, a: Tensor, b: Tensor) -> float:
        """Return zero."""
        return 0.0

    def diagonal(self) -> Tensor:
        """Return zeros (p,)."""
        return torch.zeros(self.size, dtype=torch.float32, device=self._device)

    def block(self, index: Tensor) -> Tensor:
        """Return zeros (k, k)."""
        return torch.zeros(len(index), len(index), dtype=torch.float64, device=self._device)

    def factor(self, support: Tensor, near: Factor | None = None) -> Factor:
        """Return a factor whose every step is zero."""
        return _ZeroFactor(len(support))

    def restrict(self, index: Tensor) -> Curvature:
        """Return no curvature on fewer weights."""
        return NoCurvature(len(index), self._device)


class _ZeroFactor(Factor):
    def __init__(self, size: int) -> None:
        self._size = size

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        return torch.zeros(self._size, dtype=torch.float32, device=residual.device), residual

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        return torch.zeros(len(index), len(index), dtype=torch.float64, device=index.device)
