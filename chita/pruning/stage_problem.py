"""What is known in a stage: it becomes a problem of either structure, at any λ and s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.collect.gradients import Collected
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
    VStackRows,
)
from chita.pruning.config import FULL
from chita.solvers.bso import costs

LossAt = Callable[[Tensor], float]
"""The mean loss of the network at weights (p,), on validation samples."""


@final
class StageProblem:
    """What is known in a stage: it becomes a `LocalQuadratic` of either structure, at any λ and s.

    **The first-order term by outputs.** Every block of H alone takes the step that the mean
    gradient asks for, and all of them together go far too often the same way: ResNet20's 698
    outputs a hundred times. So their common step is shortened to where the full Fisher has its
    minimum along it: the shift is sκ times the output norms, κ = -gᵀu/uᵀ(H + λI)u for the blocks'
    step u towards a lower loss on the weights that cost most to remove, with H in full. Then s = 1
    is a whole step for either structure, and κ is 1 for the full Fisher.

    Args:
        w_bar: the weights, (p,).
        rows: A (n, p), None where nothing was collected, which leaves nothing to tune.
        output_norms: what each row was divided by, (n,); the shift is s times these.
        layout: of the weights.
        constraint: the masks of the stage.
    """

    def __init__(
        self,
        w_bar: Tensor,
        rows: Rows | None,
        output_norms: Tensor,
        layout: Layout,
        constraint: Constraint,
    ) -> None:
        self.w_bar, self._norms = w_bar, output_norms
        self._layout, self.constraint = layout, constraint
        self._fishers: dict[str, GradientGram | BlockGram] = {}
        if rows is not None:
            self._fishers[FULL] = GradientGram(rows)
            self._rows = rows

    @classmethod
    def of(
        cls, w_bar: Tensor, collected: Collected | None, layout: Layout, constraint: Constraint
    ) -> StageProblem:
        """Return the problem of what was collected, of nothing where that is None."""
        if collected is None:
            return cls(w_bar, None, w_bar.new_zeros(0), layout, constraint)
        return cls(w_bar, collected.rows, collected.output_norms, layout, constraint)

    @property
    def uninformed(self) -> bool:
        """Whether nothing was collected."""
        return not self._fishers

    def fisher(self, structure: str) -> GradientGram | BlockGram:
        """Return H, where something was collected; asked again, the same."""
        if structure not in self._fishers:
            self._fishers[structure] = BlockGram(self._rows, list(self._layout.outputs))
        return self._fishers[structure]

    def predicted(self, weights: Tensor) -> tuple[float | None, dict[str, float]]:
        """Return what going to weights (p,) does to the loss, by the gradients.

        With a_i·δ = the output norm of row i times its product with the change δ, that is
        mean(a_i·δ) + ½ mean((a_i·δ)²), and for every tensor ½ mean((a_i·δ)²) of its own change
        only. None, and nothing, where nothing was collected.
        """
        if self.uninformed:
            return None, {}
        along = torch.zeros_like(self._norms, dtype=torch.float64)
        increases = {}
        for name, segment in self._layout:
            own = self._rows.part(segment).times(weights[segment] - self.w_bar[segment])
            own = own.double() * self._norms  # rows were divided by the norms: undo that
            increases[name] = 0.5 * float(own.square().mean())
            along += own
        return float(along.mean() + 0.5 * along.square().mean()), increases

    def quadratic(
        self, structure: str, ridge: float, scale: float, loss: LossAt | None = None
    ) -> LocalQuadratic:
        """Return the problem with this structure at λ and s; `loss` is the network's own.

        Raises `NumericalError` where the common step of the outputs is asked for and cannot be
        solved for.
        """
        if self.uninformed:
            curvature: Curvature = NoCurvature(len(self.w_bar), self.w_bar.device)
            shift = curvature.constant(0.0)
        else:
            curvature = self.fisher(structure)
            share = self._share(structure, ridge) if scale else 0.0
            shift = scale * share * self._shift(structure)
        return LocalQuadratic(
            w_bar=self.w_bar,
            curvature=curvature,
            ridge=ridge,
            shift=shift,
            segments=self._layout.segments,
            loss=loss,
        )

    def support(self, ridge: float) -> Tensor:
        """Return the weights that cost most to remove one by one, an index (k,)."""
        near = self.quadratic(FULL, ridge, 0.0)
        # Masks of largest total square are selected, and a cost is a square already.
        return self.constraint.select(costs(near).sqrt()).nonzero().squeeze(1)

    def first_order_step(
        self, structure: str, ridge: float, support: Tensor, factor: Factor
    ) -> Tensor:
        """Return κu (k,), the step of s = 1 that the first-order term adds on a support (k,).

        `factor` is that of the support with this structure. Raises `NumericalError` as it does.
        """
        step, _ = factor.solve(self._shift(structure), ridge)
        return step if structure == FULL else step * self._along(step, ridge, support)

    def _shift(self, structure: str) -> Tensor:
        """Return the output norms in image space."""
        return self.fisher(structure).of_rows(self._norms)

    def _share(self, structure: str, ridge: float) -> float:
        """Return κ, on the weights that cost most to remove."""
        if structure == FULL:
            return 1.0
        support = self.support(ridge)
        step, _ = self.fisher(structure).factor(support).solve(self._shift(structure), ridge)
        return self._along(step, ridge, support)

    def _along(self, step: Tensor, ridge: float, support: Tensor) -> float:
        """Return the share of a step (k,) at which the full quadratic is least, at most 1."""
        full, step = self.fisher(FULL), step.double()
        image = full.image(step, support)
        bend = full.inner(image, image) + ridge * float(step @ step)  # uᵀ(H + λI)u
        slope = -float(self._gradient[support] @ step)  # -gᵀu
        return min(1.0, slope / bend) if bend > 0 else 0.0

    @cached_property
    def _gradient(self) -> Tensor:
        """The mean gradient (p,), in float64."""
        return self.fisher(FULL).pullback(self._shift(FULL)).double()


@final
class History:
    """The gradients of the last `count` stages, collected where the network was then.

    H is the mean over the fresh gradients and these alike; the first-order term is of the fresh
    ones, since the gradient is another at every stage, where the curvature is similar. Each stage
    so has `count + 1` times the gradients, for the backward passes of one. Not in Benbaki et al.
    (2023), where a stage's Fisher is of its own gradients only.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._held: dict[int, Collected] = {}

    def lacks(self, stage: int, stages: int) -> bool:
        """Return whether a stage's gradients serve one after so many stages, and are not here."""
        return stages - self.count <= stage < stages and stage not in self._held

    def add(self, stage: int, collected: Collected) -> None:
        """Hold the gradients of a stage for the next ones, and drop those that are too old."""
        self._held[stage] = collected
        self._held = {s: c for s, c in self._held.items() if s > stage - self.count}

    def below(self, fresh: Collected) -> Collected:
        """Return fresh gradients with those of earlier stages below them.

        With n fresh rows of N, their output norms are N/n times what they were and those of the
        others zero, so that Aᵀ norms/N is still the gradient of the mean loss of the fresh ones.
        """
        if not self._held:
            return fresh
        rows = VStackRows([fresh.rows, *(self._held[s].rows for s in sorted(self._held))])
        norms = fresh.output_norms.new_zeros(rows.n)
        norms[: fresh.rows.n] = fresh.output_norms * (rows.n / fresh.rows.n)
        return replace(fresh, rows=rows, output_norms=norms)
