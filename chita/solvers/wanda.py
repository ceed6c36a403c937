"""Wanda: weights by their size times that of their input stay as they are."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Selection


@final
class Wanda(Selection):
    """Keep the weights of largest |w̄_ij| ‖X_j‖, X_j the inputs of weight j; change none of them.

    Sun et al., A simple and effective pruning approach (2024), equation 1; they compare weights
    within every output, which is the budget `PerOutput`. Departure: ‖X_j‖ is a root mean
    square, which orders weights as a norm does. λ plays no part.

    >>> import torch
    >>> from chita.constraints import KeepK
    >>> x = InputGram(torch.tensor([[[9.0, 0.0], [0.0, 1.0]]]), outputs=1)  # norms 3 and 1
    >>> w_bar = torch.tensor([1.0, 2.0])
    >>> q = LocalQuadratic(w_bar=w_bar, curvature=x, ridge=0.1, shift=x.constant(0.0))
    >>> Wanda().solve(q, KeepK(size=2, k=1)).weights  # 1·3 and 2·1
    tensor([1., 0.])
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)

    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return |w̄_ij| ‖X_j‖."""
        return problem.w_bar.abs() * problem.curvature.diagonal().sqrt()
