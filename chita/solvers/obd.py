"""Optimal brain damage: the weights whose removal alone would cost most stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.constraints import Constraint
from chita.problem import Curvature, LocalQuadratic
from chita.solvers.bso import costs
from chita.solvers.solver import Effort, Found, Solver


@final
@dataclass(frozen=True, kw_only=True)
class OBD(Solver):
    """Keep the weights of largest ½(H_jj + λ) w̄_j²; change none of them.

    LeCun et al., Optimal brain damage (1989), the saliency of its recipe. Departures: H_jj is the
    mean square of the rows' entries, not the second derivative, and λ is added to it. With λ = 0
    and `fisher="empirical"` it is the diagonal Fisher of Singh & Alistarh, WoodFisher (2020).
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (Curvature,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    @property
    def effort(self) -> Effort:
        """One pass over the rows and one selection."""
        return Effort(streams=1, systems=0)

    @property
    def chosen(self) -> frozenset[str]:
        """Nothing: λ has a part, but minima of Q cannot choose for a method without an update."""
        return frozenset()

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        mask = constraint.select(costs(problem).sqrt())
        return Found.mask_alone(problem, mask)
