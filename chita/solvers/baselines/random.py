"""Random pruning: weights drawn at random stay as they are."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from chita.options import option
from chita.problem import Curvature, LocalQuadratic
from chita.solvers.solver import Selection


@final
class Random(Selection):
    """Keep the weights of largest score, scores drawn evenly from (0, 1]; change none of them.

    The floor of a comparison: whoever is not above it has learned nothing. Under a plain number of
    weights every allowed choice is as likely as another, and what is kept at a higher sparsity is
    also kept at a lower one, so stages agree; the order follows from `seed` and p.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import NoCurvature
    >>> w_bar, none = torch.ones(9), NoCurvature(9)
    >>> q = LocalQuadratic(w_bar=w_bar, curvature=none, ridge=0.0, shift=none.constant(0.0))
    >>> few, more = (Random(seed=1).solve(q, KeepK(size=9, k=k)).mask for k in (2, 5))
    >>> (few & more).sum()
    tensor(2)
    """

    seed: int = option(0, "Seed of the scores.", at_least=0)

    curvatures: ClassVar[tuple[type[Curvature], ...]] = ()

    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return scores drawn evenly."""
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        scores = 1 - torch.rand(
            len(problem.w_bar), generator=generator, dtype=torch.float32, device="cpu"
        )
        return scores.to(problem.w_bar)
