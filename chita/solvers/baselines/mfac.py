"""M-FAC: the inverse by a recursion over rows, then the surgery of WoodFisher."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError
from chita.options import shared
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.problem.inverse import Inverse, positive
from chita.solvers.solver import Effort, Found, Solver
from chita.solvers.woodfisher import WoodFisher, surgery

_CHUNK = 1024  # columns of A at a time


@final
class MFAC(Solver):
    """`woodfisher` without blocks, its inverse by Sherman & Morrison's formula, row by row.

    F₀ = λI and F_i = F_{i-1} + a_i a_iᵀ/n, so with v_i = F_{i-1}⁻¹a_i and d_i = n + a_iᵀv_i,
    F_n⁻¹ = I/λ - Σ_i v_i v_iᵀ/d_i. The v_i are kept as coefficients over the rows, V = C A with C
    lower triangular (n, n), which needs AAᵀ only. Selection and update are those of `woodfisher`,
    to the rounding of products in the rows' type.

    Frantar et al., M-FAC (2021), section 3.1, the static algorithm; λ is its dampening. Departure:
    the recursion is in float64, there in float32.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> MFAC().solve(q, KeepK(size=2, k=1)).weights  # one removal, so exact: (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    update: bool = shared(WoodFisher, "update")

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    effort: ClassVar[Effort] = Effort(streams=4, systems=3)
    """The recursion, and the diagonal: each as much as a system."""

    @property
    def tunable(self) -> frozenset[str]:
        """As for `woodfisher`."""
        return WoodFisher(update=self.update).tunable

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        whole = [slice(0, len(problem.w_bar))]
        return surgery(problem, constraint, whole, _Recursion, update=self.update)


class _Recursion(Inverse):
    """F_n⁻¹ as coefficients C (n, n) and denominators d (n,)."""

    def __init__(self, problem: LocalQuadratic) -> None:
        if problem.ridge == 0:
            raise InputError("mfac begins at I/λ; give a ridge above zero.")
        assert isinstance(problem.curvature, GradientGram)
        self._curvature, self._ridge = problem.curvature, problem.ridge
        gram = self._curvature.row_gram()
        n = len(gram)
        self._coefficients = torch.zeros_like(gram)
        self._denominators = gram.new_empty(n)
        products = torch.zeros_like(gram)  # v_kᵀa_j, that is C AAᵀ
        # All in coefficients over the rows: no vector of p numbers is formed.
        for i in range(n):
            # v_i = F_{i-1}⁻¹a_i = a_i/λ - Σ_{k<i} v_k (v_kᵀa_i)/d_k
            row = self._coefficients[i]
            row -= self._coefficients[:i].T @ (products[:i, i] / self._denominators[:i])
            row[i] += 1 / self._ridge
            # Row i of C has no entry beyond i, since v_i is of the first rows only.
            products[i] = row[: i + 1] @ gram[: i + 1]
            # The denominator of Sherman & Morrison, times n: n + a_iᵀv_i.
            self._denominators[i] = n + products[i, i]

    @cached_property
    def diagonal(self) -> Tensor:
        index = torch.arange(self._curvature.size, device=self._coefficients.device)
        # [F_n⁻¹]_jj = 1/λ - Σ_i (v_i)_j²/d_i, for some columns of V = C A at a time
        removed = self._denominators.new_empty(len(index))
        for chunk in index.split(_CHUNK):
            inner = self._coefficients @ self._curvature.columns(chunk).double().T
            removed[chunk] = (inner.square().T / self._denominators).sum(1)
        return positive(1 / self._ridge - removed)

    def times(self, u: Tensor) -> Tensor:
        u = u.double()
        # u/λ - Vᵀ diag(1/d) V u with V = C A: A u, then n-vectors, then one pullback, which is
        # divided by n and so multiplied by it again.
        inner = self._coefficients @ self._curvature.image(u) / self._denominators
        pulled = self._curvature.pullback(self._coefficients.T @ inner, exact=True)
        return u / self._ridge - len(inner) * pulled
