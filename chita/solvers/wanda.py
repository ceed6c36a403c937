"""Wanda: weights by their size times that of their input stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.constraints import Constraint
from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver


@final
@dataclass(frozen=True, kw_only=True)
class Wanda(Solver):
    """Keep the weights of largest |w̄_ij| ‖X_j‖, X_j the inputs of weight j; change none of them.

    Sun et al., A simple and effective pruning approach (2024), equation 1; they compare weights
    within every output, which is the budget `per_layer="rows"`. Departure: ‖X_j‖ is a root mean
    square, which orders weights as a norm does. λ has no part.
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    @property
    def effort(self) -> Effort:
        """One selection."""
        return Effort(streams=1, systems=0)

    @property
    def chosen(self) -> frozenset[str]:
        """Nothing: no weight changes, and λ has no part."""
        return frozenset()

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        scores = problem.w_bar.abs() * problem.curvature.diagonal().sqrt()
        return Found.mask_alone(problem, constraint.select(scores))
