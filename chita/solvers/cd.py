"""Cyclic coordinate descent on the support of the largest weights."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver, Status

_BLOCK = 128  # coordinates whose part of H is formed at a time
_REFRESH = 20  # sweeps between exact residuals, against drift of the updated one


@final
class CD(Solver):
    """Minimise Q over one kept weight after another, in cycles, until a cycle gains little.

    The support is that of the largest weights, or of `start`, and does not change. Benbaki et al.,
    CHITA (2023), Algorithm 3, whose second part this is.

    A cycle over a block B of coordinates from gradient g_B is one forward substitution: with
    H_BB + λI = L + D + Lᵀ, the steps of its coordinates, each taken after the ones before it, are
    δ = -(L + D)⁻¹ g_B. So the iterates are those of a loop over single coordinates, block by block.

    Each cycle lowers Q or leaves it. A fixed point has no gradient on the support: it is the
    minimum that the back-solve finds.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> CD().solve(q, KeepK(size=2, k=1)).weights  # (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    max_cycles: int = option(200, "Cycles at most.", at_least=0)
    tolerance: float = option(
        1e-6,
        "A cycle that lowers Q by less than this share of |Q| is the last (official code: 1e-4).",
        at_least=0,
    )

    @property
    def effort(self) -> Effort:
        """The support's part of A twice a cycle."""
        return Effort(streams=2 + self.max_cycles, systems=0)

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        mask = constraint.select(start)
        support = mask.nonzero().squeeze(1)
        weights = torch.where(mask, start, 0)
        residual = problem.residual(weights[support].double(), support)
        triangles = [(b, _triangle(problem, b)) for b in support.split(_BLOCK)]
        trace = [problem.value_at(residual, weights)]
        status = Status.ITERATION_LIMIT
        for cycle in range(1, self.max_cycles + 1):
            before = weights.clone()
            for block, triangle in triangles:
                residual = residual + _pass(problem, weights, residual, block, triangle)
            if cycle % _REFRESH == 0:
                residual = problem.residual(weights[support].double(), support)
            value = problem.value_at(residual, weights)
            gain = trace[-1] - value
            if gain < 0:  # only rounding can do this
                weights, status = before, Status.CONVERGED
                break
            trace.append(value)
            if gain <= problem.negligible(self.tolerance, value):
                status = Status.CONVERGED
                break
        return Found(weights=weights, mask=mask, status=status, trace=tuple(trace))


def _triangle(problem: LocalQuadratic, block: Tensor) -> Tensor:
    """Return L + D of H_BB + λI; a coordinate without curvature keeps its value."""
    triangle = problem.curvature.block(block).tril()
    triangle.diagonal().add_(problem.ridge)
    # No curvature means no gradient either (H is AᵀA), so with a one on the diagonal δ_j = 0.
    flat = triangle.diagonal() <= 0
    triangle.diagonal()[flat] = 1
    return triangle


def _pass(
    problem: LocalQuadratic, weights: Tensor, residual: Tensor, block: Tensor, triangle: Tensor
) -> Tensor:
    """Move the weights of one block, in place, and return the change of the residual."""
    curvature, here = problem.curvature, weights[block].double()
    gradient = curvature.pullback(residual, block).double()
    gradient += problem.ridge * (here - problem.w_bar[block])
    # Forward substitution takes each step after the ones before it: δ = -(L + D)⁻¹ g_B.
    step = -torch.linalg.solve_triangular(triangle, gradient.unsqueeze(1), upper=False).squeeze(1)
    moved = (here + step).to(weights.dtype)
    weights[block] = moved
    # Of the step as it was rounded to the weights' type, so that the residual stays theirs.
    return curvature.image(moved.double() - here, block)
