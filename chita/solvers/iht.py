"""Iterative hard thresholding with the two-part choice of the step."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.linalg.spectral import largest_eigenvalue
from chita.options import option
from chita.problem import LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver, Status

_BRIEF = 50  # iterations between stages at most
_REFRESH = 25  # iterations between exact residuals, against drift of the updated one


class _Point(NamedTuple):
    """Weights on a mask, with what Q needs of them."""

    weights: Tensor  # (p,)
    mask: Tensor  # (p,)
    residual: Tensor  # image space
    objective: float


@final
class IHT(Solver):
    """w ← P(w - η∇Q(w)), P the projection on the allowed masks, from P(w̄) or P(start).

    The step η, τ in the paper, in two parts, after Benbaki et al., CHITA (2023), Algorithm 2:

    1. η*, the exact minimiser of Q along the gradient's entries on the support. If P keeps the
       support at η*, it is taken.
    2. Otherwise a search beyond: η = 1/L, 2/L, 4/L, ... while Q falls, at most `max_doublings`
       times; the result is the better of it and of η* with the support held.

    Every iteration lowers Q or ends the search. Each costs one pass over A for the gradient and
    the products of the support's columns; trial steps multiply only the columns that change.

    Departure: the paper's second part starts from the longest step that leaves the support as it
    is, known in closed form for top-k only; 1/L serves every constraint, and lowers Q wherever L
    bounds the largest eigenvalue of H + λ.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> IHT().solve(q, KeepK(size=2, k=1)).weights  # (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    max_iterations: int = option(500, "Iterations at most.", at_least=0)
    tolerance: float = option(
        1e-6, "An iteration that lowers Q by less than this share of |Q| is the last.", at_least=0
    )
    max_doublings: int = option(5, "Trial steps beyond 1/L at most.", at_least=0)
    lipschitz: float | None = option(
        None,
        "L, a bound on the largest eigenvalue of H + λI.",
        above=0,
        unset="1.05 times its estimate by power iteration",
    )

    @property
    def effort(self) -> Effort:
        """Two passes an iteration, and a power iteration before."""
        return Effort(streams=2 * self.max_iterations + 40, systems=0)

    @property
    def brief(self) -> IHT:
        """Fifty iterations at most."""
        return replace(self.without_bound, max_iterations=min(self.max_iterations, _BRIEF))

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        point = _at(problem, constraint.select(start), start)
        first_step = 1 / (self.lipschitz or lipschitz(problem))
        trace = [point.objective]
        status = Status.ITERATION_LIMIT
        for iteration in range(1, self.max_iterations + 1):
            after = self._iterate(problem, constraint, point, first_step)
            gain = point.objective - after.objective
            if gain > 0:
                point = after
                trace.append(point.objective)
            if gain <= problem.negligible(self.tolerance, point.objective):
                status = Status.CONVERGED
                break
            if iteration % _REFRESH == 0:
                point = _at(problem, point.mask, point.weights)
        return Found(weights=point.weights, mask=point.mask, status=status, trace=tuple(trace))

    def _iterate(
        self, problem: LocalQuadratic, constraint: Constraint, point: _Point, first_step: float
    ) -> _Point:
        gradient = problem.gradient_from(point.residual, point.weights)
        support = point.mask.nonzero().squeeze(1)
        exact, image = problem.descent(gradient[support], support)

        def moved(mask: Tensor, step: float) -> _Point:
            """Return w - η·gradient cut to a mask."""
            # r(w') = r - η·image + image(w' - (w - η·gradient on the support)), where the last
            # argument is zero except where the mask changes: few columns are multiplied.
            weights = torch.where(mask, point.weights - step * gradient, 0)
            residual = point.residual - step * image
            changed = (mask != point.mask).nonzero().squeeze(1)
            if len(changed):
                held = torch.where(point.mask, point.weights - step * gradient, 0)
                difference = (weights - held)[changed]
                residual = residual + problem.curvature.image(difference, changed)
            return _Point(weights, mask, residual, problem.value_at(residual, weights))

        # On a support that stays, Q along -g_S is a parabola: η* is its lowest point.
        held = moved(point.mask, exact)
        if torch.equal(constraint.select(point.weights - exact * gradient), point.mask):
            return held
        # The support changes at η*. 1/L lowers Q for any support (the descent lemma); longer steps
        # are tried from there while they gain.
        best: _Point | None = None
        for doubling in range(self.max_doublings + 1):
            step = first_step * 2**doubling
            trial = moved(constraint.select(point.weights - step * gradient), step)
            if best is not None and trial.objective >= best.objective:
                break
            best = trial
        return best if best is not None and best.objective < held.objective else held


def _at(problem: LocalQuadratic, mask: Tensor, weights: Tensor) -> _Point:
    """Return the point of weights on a mask, its residual computed from them."""
    weights = torch.where(mask, weights, 0)
    support = mask.nonzero().squeeze(1)
    residual = problem.residual(weights[support].double(), support)
    return _Point(weights, mask, residual, problem.value_at(residual, weights))


def lipschitz(problem: LocalQuadratic) -> float:
    """Return 1.05 (largest eigenvalue of H + λ), an estimate from below by power iteration."""
    curvature = problem.curvature
    diagonal = curvature.diagonal()
    seeded = torch.Generator().manual_seed(0)
    noise = torch.randn(len(diagonal), generator=seeded, dtype=torch.float32, device="cpu")
    # Weights with large curvature carry the leading eigenvector; random signs keep the start from
    # being orthogonal to it.
    start = diagonal.sqrt() * noise.to(diagonal)
    found = largest_eigenvalue(lambda v: curvature.pullback(curvature.image(v)), start)
    largest = max(found, float(diagonal.max()))  # no eigenvalue's maximum lies below the diagonal
    return max(1.05 * (largest + problem.ridge), 1e-30)
