"""Wanda: weights by their size times that of their input stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Selection


@final
@dataclass(frozen=True, kw_only=True)
class Wanda(Selection):
    """Keep the weights of largest |w̄_ij| ‖X_j‖, X_j the inputs of weight j; change none of them.

    Sun et al., A simple and effective pruning approach (2024), equation 1; they compare weights
    within every output, which is the budget `per_layer="rows"`. Departure: ‖X_j‖ is a root mean
    square, which orders weights as a norm does. λ has no part.
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)

    def values(self, problem: LocalQuadratic) -> Tensor:
        """|w̄_ij| ‖X_j‖."""
        return problem.w_bar.abs() * problem.curvature.diagonal().sqrt()
