"""ALPS: a layer's weights and its mask by the alternating direction method of multipliers."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver, Status

_EVERY = 3  # iterations between two looks at the support
_STEPS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # share of k that moved, above which ρ grows so
_LARGEST = 1e6  # of ρ
_STEADY, _AFTER = 3e-4, 30  # share of k that may move at the end, from this iteration on
_LOWER = 5.0  # by which the first ρ is divided where the support does not move at all
_RESTARTS = 10
_TOLERANCE = 1e-4  # of the gradient in conjugate gradients, beside the one they begin with


@final
class ALPS(Solver):
    """Weights that fit and weights that are allowed are drawn together, ever more strongly.

    In scaled weights, in which H_λ = G + λI has the diagonal 1, with b = H_λ w̄ and the allowed D:

        W ← (H_λ + ρI)⁻¹ (b - V + ρD),  D ← P(W + V/ρ),  V ← V + ρ(W - D).

    Every third iteration ρ grows by 1.3, 1.2 or 1.1, the more, the more of the support has moved
    in these three; the end is where none has. Then conjugate gradients on the support of D, for
    all outputs at once, each with its own steps. One eigendecomposition of H_λ makes each W two
    products.

    Meng et al., ALPS (2024), algorithms 1 and 2, with ρ₀ = 0.1 and 10 steps of conjugate gradients;
    λ = "0.01x" is the λ₂ of the authors' code (their text has the trace in place of the mean).
    From the code as well: the end where less than 0.03 % of k has moved after 30 iterations, ρ at
    most 1e6, 300 iterations, and a new beginning with a fifth of ρ₀ where the support does not
    move at first. Departure: conjugate gradients go on until the gradient is 1e-4 of what it was,
    `cg_iterations` at most, for each output by itself. The eigendecomposition is in float64, the
    iterations in the type of the weights.

    >>> from chita.constraints import KeepK
    >>> x = InputGram(torch.tensor([[[2.0, 0.0], [0.0, 0.2]]]), outputs=1)  # diagonal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 3.0]), curvature=x, ridge=0.1, shift=x.constant(0.0)
    ... )
    >>> ALPS().solve(q, KeepK(size=2, k=1)).weights  # 2.1·1² and 0.3·3²
    tensor([0., 3.])
    """

    rho: float = option(0.1, "The first penalty, ρ₀.", above=0)
    max_iterations: int = option(300, "Iterations from one ρ₀ at most.", at_least=1)
    cg_iterations: int = option(10, "Steps of conjugate gradients at most.", at_least=0)

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)

    effort: ClassVar[Effort] = Effort(streams=200, systems=10)
    """An eigendecomposition and some hundred products."""

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        layer = ScaledLayer(problem)
        rho, iterations = self.rho, 0
        for _ in range(_RESTARTS):
            found, moved = self._alternate(layer, constraint, rho)
            iterations += found.iterations
            if moved:
                break
            rho /= _LOWER
        # In scaled weights H_λ has the diagonal 1; `scale` turns them back.
        weights = layer.refined(found.weights, found.mask, self.cg_iterations) * layer.scale
        return replace(found, weights=torch.where(found.mask, weights, 0), iterations=iterations)

    def _alternate(
        self, layer: ScaledLayer, constraint: Constraint, rho: float
    ) -> tuple[Found, bool]:
        """Run the iterations from one ρ₀; return D, scaled, and whether its mask ever moved."""
        # W + V/ρ, of which D is what the mask keeps, and V/ρ the rest after V's own update: one
        # vector holds all that an iteration needs.
        target, mask = layer.origin, torch.ones_like(layer.origin, dtype=torch.bool)
        first = before = constraint.select(layer.origin)
        k = max(1, int(first.sum()))
        status = Status.ITERATION_LIMIT
        for iteration in range(1, self.max_iterations + 1):
            allowed = target * mask.to(target)
            rest = target - allowed
            # W = (H_λ + ρI)⁻¹(b - V + ρD) = (H_λ + ρI)⁻¹(b + ρ(D - V/ρ)), then W + V/ρ
            target = layer.fitted(allowed - rest, rho).add_(rest)
            mask = constraint.select(target)
            if iteration % _EVERY:
                continue
            moved = int((mask != before).count_nonzero())
            if not moved or (iteration > _AFTER and moved < _STEADY * k):
                status = Status.CONVERGED
                break
            before = mask
            larger = min(rho * next(f for share, f in _STEPS if moved >= share * k), _LARGEST)
            # V stays while ρ grows, so V/ρ shrinks; on the mask V is zero.
            target = torch.where(mask, target, target * (rho / larger))
            rho = larger
        stayed = status is Status.CONVERGED and torch.equal(mask, first)
        allowed = torch.where(mask, target, 0)
        return Found(weights=allowed, mask=mask, status=status, iterations=iteration), not stayed


class ScaledLayer:
    """The layer problem in weights in which H_λ has the diagonal 1.

    Flat vectors (p,) are (groups, outputs, d), row-major; `scale` (p,) turns scaled weights into
    weights, and `origin` (p,) is the scaled minimum with every weight kept.
    """

    def __init__(self, problem: LocalQuadratic) -> None:
        curvature = InputGram.of_whole_layer(problem.curvature)
        damped = curvature.damped(problem.ridge)
        diagonal = damped.diagonal(dim1=1, dim2=2)
        scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
        damped.mul_(scale.unsqueeze(1)).mul_(scale.unsqueeze(2))
        kind = problem.w_bar.dtype
        self._shape = (len(damped), curvature.outputs, curvature.inputs)
        self._exact = damped
        self._hessian = damped.to(kind)
        self.scale = scale.unsqueeze(1).expand(self._shape).flatten().to(kind)
        self.origin = problem.unpruned / self.scale
        self._right = self._times(self.origin)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self._exact)
        kind = self._hessian.dtype
        return values.clamp_min(0).to(kind).unsqueeze(1), vectors.to(kind)

    def fitted(self, near: Tensor, rho: float) -> Tensor:
        """Return (H_λ + ρI)⁻¹ (b + ρ·near)."""
        # With H_λ = E Λ Eᵀ the inverse is E (Λ + ρ)⁻¹ Eᵀ, for every ρ at the price of products.
        values, vectors = self._eigen
        turned = torch.add(self._right, near, alpha=rho).view(self._shape) @ vectors
        return (turned.div_(values + rho) @ vectors.mT).flatten()

    def refined(self, weights: Tensor, mask: Tensor, steps: int) -> Tensor:
        """Run conjugate gradients on the mask (p,), from weights (p,) that are zero off it."""
        x = weights.clone().view(self._shape)
        kept = mask.view(self._shape).to(x)
        # Gradients and directions are cut to the mask, so this is the system of each support.
        left = (self._right - self._times(weights)).view(self._shape) * kept
        direction, slope = left.clone(), (left * left).sum(2, keepdim=True)
        enough = _TOLERANCE**2 * slope
        for _ in range(steps):
            if not bool((slope > enough).any()):
                break
            image = (direction @ self._hessian).mul_(kept)
            bend = (direction * image).sum(2, keepdim=True)
            # Each output has its own step length, zero once its gradient is small enough.
            length = torch.where((slope > enough) & (bend > 0), slope / bend, 0)
            x.addcmul_(length, direction)
            left.addcmul_(length, image, value=-1)
            before, slope = slope, (left * left).sum(2, keepdim=True)
            direction.mul_(torch.where(before > 0, slope / before, 0)).add_(left)
        return x.flatten()

    def _times(self, weights: Tensor) -> Tensor:
        return (weights.view(self._shape) @ self._hessian).flatten()
