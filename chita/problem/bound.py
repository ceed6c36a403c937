"""A lower bound of Q that holds at every allowed mask."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from chita.errors import InputError
from chita.linalg.sums import dot
from chita.problem.quadratic import LocalQuadratic, Minimum

_DAMPED = 0.1  # a step that lowers the bound by more than this share of it is taken back


class AllowedMasks(Protocol):
    """A set of allowed masks, of which a `chita.constraints.Constraint` is one."""

    def select(self, values: Tensor) -> Tensor:
        """Return the allowed mask (p,) that seems to keep the largest Σ v² of values v (p,)."""

    def ceiling(self, values: Tensor, mask: Tensor) -> float:
        """Return a number that this sum exceeds at no allowed mask, given the mask selected."""


def lower_bound(
    problem: LocalQuadratic, masks: AllowedMasks, minimum: Minimum, *, steps: int = 40
) -> float:
    """Return a number that Q is not below at any allowed mask.

    For any u in image space, with z = w̄ - pullback(u)/λ,

    LB(u) = -½⟨u, u⟩ + ⟨u, r(0)⟩ + (λ/2)‖w̄‖² - (λ/2) c(z) - ½⟨shift, shift⟩ + offset

    bounds Q from below, since ½⟨r, r⟩ >= ⟨u, r⟩ - ½⟨u, u⟩, and what is left is a sum over weights,
    (λ/2) Σ z² over those kept, which no allowed mask brings above c(z), the `ceiling`
    (`docs/maths.md`, "A bound"). At the residual of an optimal support that no other mask outbids,
    LB = Q.

    The bound is concave in u. A step solves for the average s of the masks met so far, as weights
    between 0 and 1, with the system of the support in `minimum` in place of that of s. Steps that
    lower the bound far are taken back and halved. Any u gives a valid bound, so nothing rests on
    convergence; the value returned is computed in float64.

    Args:
        problem: Q, with λ > 0.
        masks: the allowed ones.
        minimum: the minimum on some allowed support, where the steps begin.
        steps: dual steps, each two passes over A and one solve.

    Raises `InputError` when λ is zero, where no such bound exists.
    """
    if problem.ridge == 0:
        raise InputError("A lower bound needs a ridge above zero.")
    # At the residual of an optimal support the bound is tight, so the steps begin close.
    u = minimum.residual.double()
    best, highest = u, -torch.inf
    average: Tensor | None = None
    length = 1.0
    for step in range(steps + 1):
        value, z, mask = _bound(problem, masks, u, exact=False)
        if value > highest:
            best, highest = u, value
        # With kinks the bound may fall on the way up. A large fall, or no number, means that the
        # step was too long: back to the best, half as long, with a new average.
        elif not value >= highest - _DAMPED * abs(highest):
            u, length, average = best, length / 2, None
            continue
        # A subgradient is r(0) - u + image(s∘z), s a mask that attains c(z). Masks jump from one
        # step to the next, so s is their running average, in which the newest counts ever less.
        share = 0.3 / (1 + 0.1 * step)
        kept = mask.to(z.dtype)
        average = kept if average is None else torch.lerp(average, kept, share)
        slope = problem.anchor - u + problem.curvature.image(average * z)
        # Newton: the curvature of LB in u is I + A_s A_sᵀ/nλ, for which that of the support in
        # `minimum` stands in. `solve` applies its inverse: the residual left of `slope`.
        u = u + length * minimum.factor.solve(slope, problem.ridge)[1]
    return _bound(problem, masks, best, exact=True)[0]


def _bound(
    problem: LocalQuadratic, masks: AllowedMasks, u: Tensor, *, exact: bool
) -> tuple[float, Tensor, Tensor]:
    """Return LB(u), z (p,) and the mask (p,) that it selects."""
    inner, w_bar = problem.curvature.inner, problem.w_bar
    pulled = problem.curvature.pullback(u, exact=exact)
    z = w_bar.to(pulled.dtype) - pulled / problem.ridge
    if not bool(torch.isfinite(z).all()):  # a step that ran away; the caller takes it back
        return -torch.inf, z, torch.zeros_like(z, dtype=torch.bool)
    mask = masks.select(z)
    value = (
        -0.5 * inner(u, u)
        + inner(u, problem.anchor)
        + 0.5 * problem.ridge * dot(w_bar, w_bar)
        - 0.5 * problem.ridge * masks.ceiling(z, mask)
        - 0.5 * inner(problem.shift, problem.shift)
        + problem.offset
    )
    return value, z, mask
