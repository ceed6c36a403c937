"""WoodFisher: the cost of each removal with its own update, and the sum of these updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.problem.inverse import Inverse, inverse_of
from chita.solvers.block_bso import blocks_of
from chita.solvers.solver import Effort, Found, Solver


@final
@dataclass(frozen=True, kw_only=True)
class WoodFisher(Solver):
    """Remove the weights of least ρ_q = ½ w̄_q²/[H_λ⁻¹]_qq, with H_λ = H + λI; update the rest.

    ρ_q is what removing weight q costs after the best update of all others for it alone. The
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
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    @property
    def effort(self) -> Effort:
        """One system, and the leverages of all weights: as much as another."""
        return Effort(streams=4, systems=2)

    @property
    def chosen(self) -> frozenset[str]:
        """Not s, since the gradient plays no part; nothing for selection alone (see `OBD`)."""
        return frozenset(("ridge", "step_size") if self.update else ())

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
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
    alone = len(blocks) == 1
    whole = invert(problem) if alone else None

    def inverse(block: slice) -> Inverse:
        return whole or invert(problem.part(block))

    w_bar = problem.w_bar.double()
    diagonal = torch.cat([inverse(block).diagonal for block in blocks])
    mask = constraint.select((w_bar / diagonal.sqrt()).to(problem.w_bar))
    weights = w_bar.clone()
    if update:
        removed = torch.where(mask, 0, w_bar / diagonal)
        for block in blocks:
            if bool(removed[block].any()):
                weights[block] -= inverse(block).times(removed[block])
    return Found(weights=torch.where(mask, weights, 0).to(problem.w_bar), mask=mask)
