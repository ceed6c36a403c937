"""SNIP: the weights to whose size the loss is most sensitive stay as they are."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.solvers.solver import Selection


@final
class SNIP(Selection):
    """Keep the weights of largest |w̄_j g_j|, g the mean of the rows; change none of them.

    g is the gradient of the loss over the samples of the rows where rows are gradients
    (`weighting="empirical"`); the first-order scale and λ play no part. Lee et al., SNIP (2019),
    its connection sensitivity. Departures: there the network is new and one batch is enough; here
    it is trained, where g is near zero and mostly noise; with the improved Fisher g is the mean of
    rows that were divided by their errors. A floor for comparisons.

    >>> import torch
    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> h = GradientGram(DenseRows(torch.tensor([[1.0], [-3.0]])))  # one row, so g
    >>> w_bar = torch.tensor([2.0, 1.0])
    >>> q = LocalQuadratic(w_bar=w_bar, curvature=h, ridge=0.1, shift=h.constant(0.0))
    >>> SNIP().solve(q, KeepK(size=2, k=1)).weights  # |2·1| and |1·(-3)|
    tensor([0., 1.])
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return w̄_j g_j."""
        gradient = problem.curvature.pullback(problem.curvature.constant(1.0))
        return problem.w_bar * gradient.to(problem.w_bar)
