"""What is known of one stage, and the problems that it can be posed as."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.layout import Layout
from chita.problem import (
    BlockGram,
    Curvature,
    Factor,
    GradientGram,
    LocalQuadratic,
    NoCurvature,
    Rows,
)
from chita.pruning.config import FULL
from chita.solvers.bso import costs

Judge = Callable[[Tensor], float]
"""The mean loss at weights (p,) on the samples held out."""


@final
class Posed:
    """What is known of a stage, to be posed as a problem with the Fisher in blocks or whole.

    **The first-order term in blocks.** Every block alone takes the step that the mean gradient asks
    for, and all of them together go far too often the same way: ResNet20's 698 outputs a hundred
    times. So their common step is shortened to where the whole Fisher has its minimum along it: the
    shift is sκ times the divisors, κ = -gᵀu/uᵀ(H + λI)u for the blocks' step u towards a lower
    loss on the weights that cost most to remove, with H whole. Then s = 1 is a whole step for
    either, and κ is 1 for the Fisher as a whole.

    Args:
        w_bar: the weights, (p,).
        rows: A (n, p), None where nothing was collected, which leaves nothing to choose.
        divisors: of the rows, (n,); the shift is s times these.
        layout: of the weights.
        constraint: the masks of the stage.
    """

    def __init__(
        self,
        w_bar: Tensor,
        rows: Rows | None,
        divisors: Tensor,
        layout: Layout,
        constraint: Constraint,
    ) -> None:
        self.w_bar, self._divisors = w_bar, divisors
        self._layout, self.constraint = layout, constraint
        self._fishers: dict[str, GradientGram | BlockGram] = {}
        if rows is not None:
            self._fishers[FULL] = GradientGram(rows)
            self._rows = rows

    @property
    def blind(self) -> bool:
        """Whether nothing was collected."""
        return not self._fishers

    def fisher(self, blocks: str) -> GradientGram | BlockGram:
        """Return H, where something was collected; asked again, the same."""
        if blocks not in self._fishers:
            self._fishers[blocks] = BlockGram(self._rows, list(self._layout.outputs))
        return self._fishers[blocks]

    def predicted(self, weights: Tensor) -> tuple[float | None, dict[str, float]]:
        """Return what going to weights (p,) does to the loss, by the gradients of the rows.

        With a_i·δ = the divisor of row i times its product with the change δ, that is
        mean(a_i·δ) + ½ mean((a_i·δ)²), and for every tensor ½ mean((a_i·δ)²) of its own change
        alone. None, and nothing, where nothing was collected.
        """
        if self.blind:
            return None, {}
        along = torch.zeros_like(self._divisors, dtype=torch.float64)
        increases = {}
        for name, segment in self._layout:
            own = self._rows.part(segment).times(weights[segment] - self.w_bar[segment])
            own = own.double() * self._divisors
            increases[name] = 0.5 * float(own.square().mean())
            along += own
        return float(along.mean() + 0.5 * along.square().mean()), increases

    def problem(
        self, blocks: str, ridge: float, scale: float, judge: Judge | None = None
    ) -> LocalQuadratic:
        """Return the problem in these blocks at λ and s, whose true loss `judge` knows.

        Raises `NumericalError` where the common step of the blocks is asked for and cannot be
        solved for.
        """
        if self.blind:
            curvature: Curvature = NoCurvature(len(self.w_bar), self.w_bar.device)
            shift = curvature.constant(0.0)
        else:
            curvature = self.fisher(blocks)
            share = self._share(blocks, ridge) if scale else 0.0
            shift = scale * share * self._shift(blocks)
        return LocalQuadratic(
            w_bar=self.w_bar,
            curvature=curvature,
            ridge=ridge,
            shift=shift,
            segments=self._layout.segments,
            loss=judge,
        )

    def support(self, ridge: float) -> Tensor:
        """Return the weights that cost most to remove alone, an index (k,)."""
        near = self.problem(FULL, ridge, 0.0)
        return self.constraint.select(costs(near).sqrt()).nonzero().squeeze(1)

    def step(self, blocks: str, ridge: float, support: Tensor, factor: Factor) -> Tensor:
        """Return κu (k,), the step of s = 1 that the first-order term adds on a support (k,).

        `factor` is that of the support in these blocks. Raises `NumericalError` as it does.
        """
        step, _ = factor.solve(self._shift(blocks), ridge)
        return step if blocks == FULL else step * self._along(step, ridge, support)

    def _shift(self, blocks: str) -> Tensor:
        """The divisors in image space."""
        return self.fisher(blocks).of_rows(self._divisors)

    def _share(self, blocks: str, ridge: float) -> float:
        """κ, on the weights that cost most to remove."""
        if blocks == FULL:
            return 1.0
        support = self.support(ridge)
        step, _ = self.fisher(blocks).factor(support).solve(self._shift(blocks), ridge)
        return self._along(step, ridge, support)

    def _along(self, step: Tensor, ridge: float, support: Tensor) -> float:
        """The share of a step (k,) at which the whole quadratic is least, at most 1."""
        whole, step = self.fisher(FULL), step.double()
        image = whole.image(step, support)
        bend = whole.inner(image, image) + ridge * float(step @ step)
        slope = -float(self._gradient[support] @ step)
        return min(1.0, slope / bend) if bend > 0 else 0.0

    @cached_property
    def _gradient(self) -> Tensor:
        """The mean gradient (p,), in float64."""
        return self.fisher(FULL).pullback(self._shift(FULL)).double()
