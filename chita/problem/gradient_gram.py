"""The empirical Fisher H = AᵀA/n, kept as its rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.errors import NumericalError
from chita.linalg.cholesky import cholesky, solve
from chita.linalg.conjugate_gradient import conjugate_gradient
from chita.problem.curvature import Curvature, Factor
from chita.problem.rows import DenseRows, Rows

_STRIPS = 8  # of a Gram, of which the part above the diagonal is left out
_NARROWEST = 256  # rows of a strip, below which products are slow
_ITERATIONS = 40  # of conjugate gradients at most
_TOLERANCE = 1e-6  # of their residual, beside the right-hand side: 1e-12 of Q
_ITERATING = 300  # multiply-adds, per entry of A, of a system that takes as long as they do


@final
class GradientGram(Curvature):
    """H = AᵀA/n for rows A (n, p): a mean over rows, never a sum.

    image(v) = A v (n,), pullback(z) = Aᵀz/n, inner(a, b) = aᵀb/n.

    Singh & Alistarh, WoodFisher (2020), section 3; Benbaki et al., CHITA (2023), section 2.
    Large products are in the rows' type, n x n and k x k systems in float64.

    >>> rows = DenseRows(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    >>> GradientGram(rows).diagonal()
    tensor([1., 2.])
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows.p)
        self._rows, self.num_rows = rows, rows.n
        self._fresh: _RowFactor | None = None  # whoever asks again is given the same bits

    def of_rows(self, z: Tensor) -> Tensor:
        """Return z (n,): its pullback is Aᵀz/n."""
        return z

    def constant(self, value: float) -> Tensor:
        """Return `value` for each of the n rows, float64."""
        return torch.full((self.num_rows,), value, dtype=torch.float64, device=self._rows.device)

    def image(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v, or A_S v, shape (n,)."""
        return self._rows.times(v, support)

    def pullback(self, z: Tensor, support: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """Return Aᵀz/n, shape (p,), or A_Sᵀz/n, shape (k,)."""
        if not exact:
            return self._rows.transpose_times(z / self._rows.n, support)
        # Rows multiply by z in their own type, so float64 takes columns that were promoted first.
        device = z.device
        index = torch.arange(self._rows.p, device=device) if support is None else support
        scaled = z.double() / self._rows.n
        return torch.cat([
            self._rows.gather(b).double() @ scaled for b in index.split(self._rows.at_once)
        ])

    def inner(self, a: Tensor, b: Tensor) -> float:
        """Return aᵀb/n in float64."""
        return float(a.double() @ b.double()) / self._rows.n

    def diagonal(self) -> Tensor:
        """Return the mean squared gradient of every weight, (p,)."""
        return self._diagonal

    @cached_property
    def _diagonal(self) -> Tensor:
        return self._rows.squared_norms() / self._rows.n

    def block(self, index: Tensor) -> Tensor:
        """Return A_BᵀA_B/n, (k, k)."""
        columns = self._rows.gather(index)
        return (columns @ columns.T).double() / self._rows.n

    def columns(self, index: Tensor) -> Tensor:
        """Return the columns of A named by index (k,), copied to (k, n)."""
        return self._rows.gather(index)

    def row_gram(self) -> Tensor:
        """Return A Aᵀ (n, n) in float64."""
        lower = _row_gram(self._rows, torch.arange(self.size, device=self._rows.device)).tril()
        return lower + lower.tril(-1).T

    def factor(self, support: Tensor, near: Factor | None = None) -> Factor:
        """Prepare through the smaller of an n x n and a k x k system, or to do without either."""
        if isinstance(near, _IteratedFactor):
            near = near.formed  # a Gram to update, if one was formed there
        if self._iterates(len(support)):
            return _IteratedFactor(
                self._rows, support, self._whole, lambda: self._formed(support, near)
            )
        return self._formed(support, near)

    def _formed(self, support: Tensor, near: Factor | None) -> Factor:
        # The smaller system: k x k normal equations, or the n x n dual one.
        if len(support) < self._rows.n:
            return _WeightFactor(self._rows, self._rows.gather(support))
        if isinstance(near, _RowFactor):
            return near.moved_to(support)
        if self._fresh is None or not torch.equal(self._fresh.support, support):
            self._fresh = _RowFactor(self._rows, support, _row_gram(self._rows, support))
        return self._fresh

    def _iterates(self, k: int) -> bool:
        """Return whether conjugate gradients cost less than an n x n system of k columns."""
        n, p = self._rows.n, self._rows.p
        # In multiply-adds: half a Gram of the columns kept, or of those removed where these are
        # fewer, and its Cholesky factor.
        forming = n**2 * min(k, p - k) // 2 + n**3 // 6
        return self._rows.factored and k >= n and forming > _ITERATING * n * p

    @cached_property
    def _whole(self) -> _System:
        """The system of all columns."""
        gram = self._rows.whole_gram()
        assert gram is not None
        return _System(gram, self._rows.n)

    def restrict(self, index: Tensor) -> Curvature:
        """Return the same rows, seen from the named weights only."""
        return GradientGram(DenseRows(self._rows.gather(index)))


class _System:
    """A Gram matrix, its lower triangle, with nλ on its diagonal; the factors of two λ are kept."""

    def __init__(self, gram: Tensor, n: int) -> None:
        self._gram, self._n = gram, n
        self._kept: dict[float, Tensor] = {}

    def cholesky(self, ridge: float) -> Tensor:
        """Return the lower triangle of the factor for one λ."""
        if ridge not in self._kept:
            # λ goes on the Gram's own diagonal and off it again: a copy would take n² numbers more.
            diagonal = self._gram.diagonal()
            without = diagonal.clone()
            diagonal.add_(self._n * ridge)
            try:
                factor = cholesky(self._gram)
            finally:
                diagonal.copy_(without)
            if len(self._kept) == 2:  # so that memory is bounded, whatever ridges are tried
                del self._kept[next(iter(self._kept))]
            self._kept[ridge] = factor
        return self._kept[ridge]


class _RowFactor(Factor):
    """K = A_S A_Sᵀ (n, n): with α = (K + nλI)⁻¹ r, x = -A_Sᵀα and r + A_S x = nλα.

    This dual form has no difference of large terms, unlike Woodbury's formula, which divides one
    by λ. At λ = 0 it gives the shortest x that leaves no residual, if K is regular.
    """

    def __init__(self, rows: Rows, support: Tensor, gram: Tensor) -> None:
        self._rows, self.support, self._gram = rows, support, gram
        self._system = _System(gram, rows.n)

    def moved_to(self, support: Tensor) -> _RowFactor:
        """Return the factor of another support; K changes by the columns that enter and leave."""
        here = torch.zeros(self._rows.p, dtype=torch.bool, device=support.device)
        there = here.clone()
        here[self.support] = True
        there[support] = True
        entering = (there & ~here).nonzero().squeeze(1)
        leaving = (here & ~there).nonzero().squeeze(1)
        # An update costs the products of the columns that move, and a copy of K; where many move, K
        # is formed from its own columns.
        if 2 * (len(entering) + len(leaving)) > len(support):
            return _RowFactor(self._rows, support, _row_gram(self._rows, support))
        # K_T = K_S + A_in A_inᵀ - A_out A_outᵀ
        gram = self._gram.clone()
        _add_row_gram(gram, self._rows, entering, 1)
        _add_row_gram(gram, self._rows, leaving, -1)
        return _RowFactor(self._rows, support, gram)

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        # α = (K + nλI)⁻¹ r; then x = -A_Sᵀα, and r + A_S x = r - Kα = nλα without a product.
        triangle = self._system.cholesky(ridge)
        alpha = solve(triangle, residual.double())
        return -self._rows.transpose_times(alpha, self.support), self._rows.n * ridge * alpha

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        # C = AᵢᵀM⁻¹Aᵢ = (L⁻¹Aᵢ)ᵀ(L⁻¹Aᵢ) with M = K + nλI = LLᵀ: symmetric whatever rounding does.
        columns = self._rows.gather(index).double()
        half = torch.linalg.solve_triangular(self._system.cholesky(ridge), columns.T, upper=False)
        crossed: Tensor = half.T @ half
        return crossed


def _row_gram(rows: Rows, support: Tensor) -> Tensor:
    """Return the lower triangle of A_S A_Sᵀ (n, n) in float64, from products in the rows' type.

    Of most columns, it is the Gram of all less that of the rest, where the former costs little.
    """
    if 2 * len(support) > rows.p and (whole := rows.whole_gram()) is not None:
        rest = torch.ones(rows.p, dtype=torch.bool, device=support.device)
        rest[support] = False
        _add_row_gram(whole, rows, rest.nonzero().squeeze(1), -1)
        return whole
    gram = torch.zeros(rows.n, rows.n, dtype=torch.float64, device=support.device)
    _add_row_gram(gram, rows, support, 1)
    return gram


def _add_row_gram(gram: Tensor, rows: Rows, index: Tensor, sign: int) -> None:
    """Add ±A_B A_Bᵀ to the lower triangle of a Gram, in place, block by block."""
    # Strips from the diagonal down: little more than half of the products of the full square.
    width = max(_NARROWEST, -(-rows.n // _STRIPS))
    for block in index.split(rows.at_once):
        columns = rows.gather(block)
        for start in range(0, rows.n, width):
            strip = columns[:, start : start + width]
            gram[start:, start : start + width].add_(columns[:, start:].T @ strip, alpha=sign)


def _weight_gram(columns: Tensor) -> Tensor:
    """Return the lower triangle of A_SᵀA_S (k, k) in float64, from products in the rows' type."""
    gram = columns.new_zeros(len(columns), len(columns), dtype=torch.float64)
    width = max(_NARROWEST, -(-len(columns) // _STRIPS))
    for start in range(0, len(columns), width):
        strip = slice(start, start + width)
        gram[start:, strip] = columns[start:] @ columns[strip].T
    return gram


class _WeightFactor(Factor):
    """C = A_Sᵀ A_S (k, k): x = -(C + nλI)⁻¹ A_Sᵀ r."""

    def __init__(self, rows: Rows, columns: Tensor) -> None:
        self._rows, self._columns = rows, columns
        self._system = _System(_weight_gram(columns), rows.n)

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        # x = -(C + nλI)⁻¹A_Sᵀr, the normal equations times n; here the residual needs a product.
        columns = self._columns.double()
        step = -solve(self._system.cholesky(ridge), columns @ residual.double())
        return step.to(self._columns.dtype), residual + step @ columns

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        # Woodbury: (A_S A_Sᵀ + nλI)⁻¹ = (I - A_S (C + nλI)⁻¹ A_Sᵀ)/nλ
        if ridge == 0:
            raise NumericalError(
                "Fewer weights are kept than there are rows, so without a ridge their exchange has "
                "no price. Give a ridge above zero."
            )
        named = self._rows.gather(index).double()
        pulled = self._columns.double() @ named.T
        half = torch.linalg.solve_triangular(self._system.cholesky(ridge), pulled, upper=False)
        crossed: Tensor = (named @ named.T - half.T @ half) / (self._rows.n * ridge)
        return crossed


class _IteratedFactor(Factor):
    """Conjugate gradients on (A_S A_Sᵀ + nλI) α = r: no system of this support is formed.

    Each step is two products with factored rows. The system of all columns costs little there,
    and is so good a preconditioner that 8 to 30 steps do: MLPNet, n = 4,000, between a fifth and
    seven eighths of the weights removed. Where they do not, and for `cross`, a system is formed.
    """

    def __init__(
        self, rows: Rows, support: Tensor, whole: _System, form: Callable[[], Factor]
    ) -> None:
        self._rows, self._support, self._whole, self._form = rows, support, whole, form
        self.formed: Factor | None = None

    @property
    def priced(self) -> bool:
        return self.formed is not None

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        rows, support = self._rows, self._support

        def product(v: Tensor) -> Tensor:
            # A_S A_Sᵀv + nλv: A_Sᵀv in the rows' type, all else in float64.
            pulled = rows.transpose_times(v, support).double()
            return rows.times(pulled, support) + rows.n * ridge * v

        found = None
        # Once a system is formed it answers exactly and at once. Without a ridge the system of all
        # columns may be singular, and is no preconditioner.
        if self.formed is None and ridge > 0:
            triangle = self._whole.cholesky(ridge)
            found = conjugate_gradient(
                product,
                residual.double(),
                lambda v: solve(triangle, v),
                tolerance=_TOLERANCE,
                limit=_ITERATIONS,
            )
        if found is None:
            return self._explicit().solve(residual, ridge)
        # r + A_S x = r - A_S A_Sᵀα = nλα + (what conjugate gradients leave of the equation)
        alpha, left = found
        return -rows.transpose_times(alpha, support), rows.n * ridge * alpha + left

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        return self._explicit().cross(index, ridge)

    def _explicit(self) -> Factor:
        if self.formed is None:
            self.formed = self._form()
        return self.formed
