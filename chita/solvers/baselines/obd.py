"""Optimal brain damage: the weights whose removal alone would cost most stay as they are."""

from __future__ import annotations

from typing import final

from torch import Tensor

from chita.problem import LocalQuadratic
from chita.solvers.bso import costs
from chita.solvers.solver import Selection


@final
class OBD(Selection):
    """Keep the weights of largest ½(H_jj + λ) w̄_j²; change none of them.

    LeCun et al., Optimal brain damage (1989), the saliency of its recipe. Departures: H_jj is the
    mean square of the rows' entries, not the second derivative, and λ is added to it. With λ = 0
    and `weighting="empirical"` it is the diagonal Fisher of Singh & Alistarh, WoodFisher (2020).

    >>> import torch
    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.tensor([[2.0, 0.0], [0.0, 0.2]])))  # diagonal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 3.0]), curvature=h, ridge=0.1, shift=h.constant(0.0)
    ... )
    >>> OBD().solve(q, KeepK(size=2, k=1)).mask  # (2 + 0.1)·1² and (0.02 + 0.1)·3²
    tensor([ True, False])
    """

    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return the root of the saliency."""
        return costs(problem).sqrt()
