"""The local quadratic model of the loss around the given weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.errors import InputError
from chita.layout import segments_of
from chita.linalg.sums import dot
from chita.problem.curvature import Curvature, Factor


@final
@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The best weights on one support.

    Fields: `weights` (p,), zero off the support; `residual`, image space; `objective`, Q there;
    `factor`, reusable for a support nearby.
    """

    weights: Tensor
    residual: Tensor
    objective: float
    factor: Factor


@final
@dataclass(frozen=True, kw_only=True)
class LocalQuadratic:
    """Q(w) = gᵀ(w-w̄) + ½(w-w̄)ᵀ(H+λI)(w-w̄) + offset, with g = pullback(shift).

    Written with the residual r(w) = shift + image(w-w̄), which is how it is computed,
    Q(w) = ½⟨r, r⟩ - ½⟨shift, shift⟩ + (λ/2)‖w-w̄‖² + offset.
    For rows A (n, p) and shift = s·1 this is "The quadratic model" of `docs/maths.md`: H = AᵀA/n
    and g = s·mean of the rows. λ multiplies ½‖w-w̄‖² beside a *mean* loss.

    Fields:
        w_bar: the weights w̄ around which the loss is modelled, (p,).
        curvature: H.
        ridge: λ >= 0.
        shift: first-order term, a vector of the curvature's image space in float64; zero where
            it is left out.
        offset: constant added to Q, so that values of a restricted problem are values of Q.
        segments: consecutive slices that cover the p weights, one per tensor of the network;
            empty where all belong together. Q does not depend on them.
        loss: the true mean loss at weights (p,) on samples that made no row; None where there are
            none, and in a restricted problem. Asking it may leave these weights in the network.
        evaluated: is called whenever a residual or a gradient is computed, which shows that a
            solver advances.

    The field is `shift`, and the gradient (p,) is derived from it. So a back-solve stays in image
    space (`docs/maths.md`, "The minimum on a support"), and no solver needs a case for the
    first-order term.

    Raises `InputError` on a negative ridge, sizes that differ, or weights that are not finite.

    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.tensor([[2.0], [0.0]])))
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 3.0]), curvature=h, ridge=0.5, shift=h.constant(0.0)
    ... )
    >>> q.value(torch.tensor([0.0, 3.0]))  # ½(4 + 0.5)
    2.25
    """

    w_bar: Tensor
    curvature: Curvature
    ridge: float
    shift: Tensor
    offset: float = 0.0
    segments: tuple[slice, ...] = ()
    loss: Callable[[Tensor], float] | None = None
    evaluated: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < float("inf"):
            raise InputError(f"ridge is {self.ridge}; give a finite number >= 0.")
        if tuple(self.w_bar.shape) != (self.curvature.size,):
            raise InputError(
                f"w_bar has shape {tuple(self.w_bar.shape)}, but the curvature is of "
                f"{self.curvature.size} weights."
            )
        if not bool(torch.isfinite(self.w_bar).all()):
            raise InputError("The weights hold NaN or infinite values; give a trained network.")

    @cached_property
    def gradient(self) -> Tensor:
        """g (p,): the gradient of Q at w̄."""
        return self.curvature.pullback(self.shift)

    @cached_property
    def unpruned(self) -> Tensor:
        """The minimum of Q with every weight kept, (p,): w̄ without a first-order term."""
        if not bool(self.shift.any()):
            return self.w_bar
        return self.minimise_on(torch.arange(len(self.w_bar), device=self.w_bar.device)).weights

    @cached_property
    def anchor(self) -> Tensor:
        """r(0) = shift - image(w̄) in float64: the residual when every weight is removed."""
        return self.shift - self.curvature.image(self.w_bar.double())

    @cached_property
    def rounding(self) -> float:
        """Changes of Q below this say nothing: 1e-12 of what removing every weight costs."""
        cost = self.curvature.inner(self.anchor, self.anchor)
        return 0.5e-12 * (cost + self.ridge * dot(self.w_bar, self.w_bar))

    def negligible(self, share: float, value: float) -> float:
        """Return the change of Q that does not count: a share of |value|, or its rounding."""
        return max(share * abs(value), self.rounding)

    def residual(self, weights: Tensor, support: Tensor | None = None) -> Tensor:
        """Return r(w) in float64, for w (p,), or for w zero off an index S (k,) and given there.

        The product is formed in the type of `weights`.
        """
        self.evaluated()
        return self.anchor + self.curvature.image(weights, support)

    def value_at(self, residual: Tensor, weights: Tensor) -> float:
        """Return Q from a residual already known to belong to weights (p,)."""
        distance = weights - self.w_bar
        fit = self.curvature.inner(residual, residual)
        start = self.curvature.inner(self.shift, self.shift)
        return 0.5 * (fit - start) + 0.5 * self.ridge * dot(distance, distance) + self.offset

    def value(self, weights: Tensor) -> float:
        """Return Q(w) for w (p,), every product in float64."""
        support = weights.nonzero().squeeze(1)
        return self.value_at(self.residual(weights[support].double(), support), weights)

    def gradient_from(self, residual: Tensor, weights: Tensor) -> Tensor:
        """Return the gradient of Q (p,) from the residual of weights (p,): one pass over A."""
        self.evaluated()
        return self.curvature.pullback(residual) + self.ridge * (weights - self.w_bar)

    def gradient_at(self, weights: Tensor) -> Tensor:
        """Return the gradient of Q (p,) at weights (p,)."""
        return self.gradient_from(self.residual(weights), weights)

    def descent(self, gradient: Tensor, support: Tensor | None = None) -> tuple[float, Tensor]:
        """Return the step η at which Q(w - ηg) is lowest, and the image of g.

        g is the gradient of Q at w, (p,), or its entries at an index S (k,), zero elsewhere. η is
        0 where g is.
        """
        image = self.curvature.image(gradient, support)
        slope = dot(gradient, gradient)
        bend = self.curvature.inner(image, image) + self.ridge * slope
        return (slope / bend if bend > 0 else 0.0), image

    def minimise_on(self, support: Tensor, near: Factor | None = None) -> Minimum:
        """Return the minimum of Q over weights that are zero off an ascending index (k,).

        `near` is the factor of an earlier support (`Minimum.factor`).

        Raises `NumericalError` when the system is not positive definite.
        """
        kept = self.w_bar[support]
        factor = self.curvature.factor(support, near)
        step, residual = factor.solve(self.residual(kept, support), self.ridge)
        weights = torch.zeros_like(self.w_bar).index_copy_(0, support, kept + step)
        return Minimum(
            weights=weights,
            residual=residual,
            objective=self.value_at(residual, weights),
            factor=factor,
        )

    def restrict(self, index: Tensor) -> LocalQuadratic:
        """Return Q as a function of the weights named by index (k,), the rest held at zero.

        Its values are values of Q: what the removed weights cost moves into shift and offset.
        """
        shift = self.residual(self.w_bar[index].double(), index)
        removed = self.w_bar.clone()
        removed[index] = 0
        lost = 0.5 * self.ridge * dot(removed, removed)
        moved = self.curvature.inner(shift, shift) - self.curvature.inner(self.shift, self.shift)
        return LocalQuadratic(
            w_bar=self.w_bar[index],
            curvature=self.curvature.restrict(index),
            ridge=self.ridge,
            shift=shift,
            offset=self.offset + lost + 0.5 * moved,
            segments=segments_of(index, self.segments),
            evaluated=self.evaluated,
        )

    def part(self, segment: slice) -> LocalQuadratic:
        """Return Q as a function of the weights of a slice only, the rest held at w̄."""
        index = torch.arange(segment.start, segment.stop, device=self.w_bar.device)
        curvature, w_bar = self.curvature.restrict(index), self.w_bar[segment]
        return replace(self, w_bar=w_bar, curvature=curvature, segments=(), loss=None)
