"""Optimal brain damage: the weights whose removal alone would cost most stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, LocalQuadratic
from chita.solvers.bso import costs
from chita.solvers.solver import Selection


@final
@dataclass(frozen=True, kw_only=True)
class OBD(Selection):
    """Keep the weights of largest ½(H_jj + λ) w̄_j²; change none of them.

    LeCun et al., Optimal brain damage (1989), the saliency of its recipe. Departures: H_jj is the
    mean square of the rows' entries, not the second derivative, and λ is added to it. With λ = 0
    and `fisher="empirical"` it is the diagonal Fisher of Singh & Alistarh, WoodFisher (2020).
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (Curvature,)

    def values(self, problem: LocalQuadratic) -> Tensor:
        """The root of the saliency."""
        return costs(problem).sqrt()
