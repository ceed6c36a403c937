"""Magnitude pruning: the largest weights stay as they are."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, LocalQuadratic
from chita.solvers.solver import Selection


@final
class Magnitude(Selection):
    """Keep the weights of largest square; change none of them.

    One global ranking over all tensors, unscaled. No data are needed. Han et al. (2015); the
    baseline MP of Benbaki et al., CHITA (2023).

    >>> import torch
    >>> from chita.constraints import KeepK
    >>> from chita.problem import NoCurvature
    >>> w_bar, none = torch.tensor([1.0, -3.0, 2.0]), NoCurvature(3)
    >>> q = LocalQuadratic(w_bar=w_bar, curvature=none, ridge=0.0, shift=none.constant(0.0))
    >>> Magnitude().solve(q, KeepK(size=3, k=1)).weights
    tensor([ 0., -3.,  0.])
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = ()

    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return the weights themselves."""
        return problem.w_bar
