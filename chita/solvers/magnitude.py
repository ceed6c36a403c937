"""Magnitude pruning: the largest weights stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, LocalQuadratic
from chita.solvers.solver import Selection


@final
@dataclass(frozen=True, kw_only=True)
class Magnitude(Selection):
    """Keep the weights of largest square; change none of them.

    One global ranking over all tensors, unscaled. No data are needed. Han et al. (2015); the
    baseline MP of Benbaki et al., CHITA (2023).
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = ()

    def values(self, problem: LocalQuadratic) -> Tensor:
        """The weights themselves."""
        return problem.w_bar
