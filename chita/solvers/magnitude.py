"""Magnitude pruning: the largest weights stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.constraints import Constraint
from chita.problem import Curvature, LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver


@final
@dataclass(frozen=True, kw_only=True)
class Magnitude(Solver):
    """Keep the weights of largest square; change none of them.

    One global ranking over all tensors, unscaled. No data are needed. Han et al. (2015); the
    baseline MP of Benbaki et al., CHITA (2023).
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = ()
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    @property
    def effort(self) -> Effort:
        """One selection."""
        return Effort(streams=0, systems=0)

    @property
    def chosen(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        mask = constraint.select(problem.w_bar)
        return Found.mask_alone(problem, mask)
