"""Back-solve in independent blocks of weights."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option, shared
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.solvers.bso import BSO, supports
from chita.solvers.solver import Effort, Found, Solver
from chita.solvers.woodfisher import blocks_of


@final
class BlockBSO(Solver):
    """The supports of `bso`, each with the exact minimum of every block by itself.

    The weights of each tensor are cut into blocks of equal size to within one, as few as keep them
    at or below `block_size`. The support is chosen over all weights at once, so one threshold
    decides how many each block keeps. A block is then solved as if all other weights stayed at w̄:
    H is taken as block-diagonal, and systems are at most `block_size` wide. Of the supports, that
    of lowest Q, with the whole H, is taken; it may be above that of the same support unchanged.

    Benbaki et al., CHITA (2023), Algorithm 6, and WoodFisher's blocks. With one block in all it is
    `bso`.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> [BlockBSO(block_size=b).solve(q, KeepK(size=2, k=1)).weights[0].item() for b in (1, 2)]
    [2.0, 2.5]
    """

    block_size: int = option(
        500, "Weights of a block at most (500 in the paper's gradual runs).", at_least=1
    )
    tries: int = shared(BSO, "tries")

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    effort: ClassVar[Effort] = Effort(streams=16, systems=0)
    """A few passes; the systems are small."""

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        masks = supports(problem, constraint, start, self.tries)
        trials = [(mask, self._solved(problem, mask)) for mask in masks]
        values = [problem.value(weights) for _, weights in trials]
        lowest = min(values)
        mask, weights = trials[values.index(lowest)]
        return Found(weights=weights, mask=mask, trace=(lowest,))

    def _solved(self, problem: LocalQuadratic, mask: Tensor) -> Tensor:
        """Return the minima of all blocks, side by side (p,)."""
        weights = torch.zeros_like(problem.w_bar)
        for block in blocks_of(problem, self.block_size):
            support = mask[block].nonzero().squeeze(1)
            weights[block] = problem.part(block).minimise_on(support).weights
        return weights
