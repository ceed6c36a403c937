"""WoodFisher: the cost of each removal with its own update, and the sum of these updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.problem.inverse import Inverse, inverse_of
from chita.solvers.solver import Effort, Found, Solver


@final
class WoodFisher(Solver):
    """Remove the weights of least ρ_q = ½ w̄_q²/[H_λ⁻¹]_qq, with H_λ = H + λI; update the rest.

    ρ_q is what removing weight q costs after the best update of the rest for it only. The
    updates of all removed weights are added, δ = -Σ_q w̄_q/[H_λ⁻¹]_qq · H_λ⁻¹e_q, and what the sum
    leaves on removed weights is set to zero: the update is exact for one removal and blind to how
    removals cancel, so Q may be above that of the same mask unchanged.

    The inverse is that of the whole of H_λ, through the n x n system of the rows or, where weights
    are fewer than rows, through their own; a p x p matrix is formed only in the latter case. Large
    products are in the rows' type, all else in float64.

    Singh & Alistarh, WoodFisher (2020), the pruning statistic and the update of its sections on
    the inverse and on pruning; λ is its damping, 1e-5 in its one-shot experiments. Departures: its
    inverse is a recursion over rows (see `mfac`), the same in exact arithmetic; the gradient at w̄
    is taken as zero, as there, even where Q has one. Its blocks: none for small networks, 2,000
    weights for ResNet-50, 10,000 for MobileNetV1.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> WoodFisher().solve(q, KeepK(size=2, k=1)).weights  # one removal, so exact: (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    block_size: int = option(
        0,
        "Weights of a block of one tensor at most, outside of which H is taken as zero; 0 makes "
        "no blocks.",
        at_least=0,
    )
    update: bool = option(
        True, "Update the weights that stay; otherwise they do not change (WF-S)."
    )

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    effort: ClassVar[Effort] = Effort(streams=4, systems=2)
    """One system, and the leverages of all weights: as much as another."""

    @property
    def tunable(self) -> frozenset[str]:
        """Not s, since the gradient plays no part; nothing for selection only (see `OBD`)."""
        return frozenset(("ridge", "step_size") if self.update else ())

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        blocks = blocks_of(problem, self.block_size)
        return surgery(problem, constraint, blocks, inverse_of, update=self.update)


def surgery(
    problem: LocalQuadratic,
    constraint: Constraint,
    blocks: Sequence[slice],
    invert: Callable[[LocalQuadratic], Inverse],
    *,
    update: bool,
) -> Found:
    """Return what the saliencies ρ keep, with the sum of single updates where `update`.

    Blocks are inverted one at a time, and again for the update where there are several.
    """
    whole = invert(problem) if len(blocks) == 1 else None

    def inverse(block: slice) -> Inverse:
        return whole or invert(problem.part(block))

    # √ρ_q is |w̄_q|/√[H_λ⁻¹]_qq up to a factor, and masks are chosen by the largest squares.
    w_bar = problem.w_bar.double()
    diagonal = torch.cat([inverse(block).diagonal for block in blocks])
    mask = constraint.select((w_bar / diagonal.sqrt()).to(problem.w_bar))
    weights = w_bar.clone()
    if update:
        # δ = -H_λ⁻¹u with u_q = w̄_q/[H_λ⁻¹]_qq for removed q, else zero: one product for the sum.
        removed = torch.where(mask, 0, w_bar / diagonal)
        for block in blocks:
            if bool(removed[block].any()):
                weights[block] -= inverse(block).times(removed[block])
    # Each update by itself brings its weight to zero; their sum does not, and the rest is cut.
    return Found(weights=torch.where(mask, weights, 0).to(problem.w_bar), mask=mask)


def blocks_of(problem: LocalQuadratic, block_size: int) -> list[slice]:
    """Return consecutive blocks of weights, equal to within one, as few as keep to the size.

    They do not cross the borders of tensors. With size 0 all weights are one block.
    """
    whole = slice(0, len(problem.w_bar))
    if block_size == 0:
        return [whole]
    blocks = []
    for segment in problem.segments or (whole,):
        count = segment.stop - segment.start
        pieces = math.ceil(count / block_size)  # the fewest; their ends are spread evenly
        ends = [segment.start + count * i // pieces for i in range(pieces + 1)]
        blocks += [slice(a, b) for a, b in pairwise(ends)]
    return blocks
