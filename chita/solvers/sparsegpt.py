"""SparseGPT: columns one after another, the error of each made good by those that follow."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint, Divisible, KeepKInGroups
from chita.linalg.cholesky import cholesky
from chita.options import option
from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver


@final
class SparseGPT(Solver):
    """Prune inputs from the first to the last; after each, the later ones take over its error.

    With U the upper factor of (G + λI)⁻¹ = Uᵀ U, row j of U says how the weights after j make good
    a change of weight j while those before it stay: w ← w - (w_j / U_jj) U_j. The mask is chosen
    for `block_size` inputs at a time, when they are reached, by the cost w_j²/U_jj² of what the
    weights are by then; for N:M, for M inputs at a time.

    Frantar & Alistarh, SparseGPT (2023), algorithm 1, with block size B = Bₛ = `block_size`. Their
    damping, 1 % of the mean diagonal, is our λ = "0.01x"; their 2/N before XᵀX changes no ratio.
    Departures: numbers of weights that do not divide evenly among blocks of inputs go to those of
    largest remainder, so that the whole count is exact; and inputs that are always zero need no
    case, since λ is on their diagonal.

    >>> from chita.constraints import KeepK
    >>> x = InputGram(torch.ones(1, 2, 2), outputs=1)  # two inputs, always equal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 2.0]), curvature=x, ridge=1.0, shift=x.constant(0.0)
    ... )
    >>> SparseGPT().solve(q, KeepK(size=2, k=1)).weights  # (1·1 + 2·2)/2
    tensor([0.0000, 2.5000])
    """

    block_size: int = option(128, "Inputs at a time.", at_least=1)

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Divisible,)

    effort: ClassVar[Effort] = Effort(streams=2, systems=2)
    """One inverse and its factor."""

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        curvature = InputGram.of_whole_layer(problem.curvature)
        assert isinstance(constraint, Divisible)
        groups, inputs = len(curvature.gram), curvature.inputs
        # U, upper, with (G + λI)⁻¹ = UᵀU: the lower factor L of the inverse has L Lᵀ, so U = Lᵀ.
        inverse = torch.cholesky_inverse(cholesky(curvature.damped(problem.ridge)))
        factors = cholesky(inverse).mT.to(problem.w_bar.dtype)
        weights = problem.unpruned.view(groups, curvature.outputs, inputs).clone()
        mask = torch.zeros_like(weights, dtype=torch.bool)
        chosen = min(_together(constraint) or self.block_size, inputs)
        flat = torch.arange(weights.numel(), device=weights.device).view_as(weights)
        parts = [part.flatten() for part in flat.split(chosen, dim=2)]  # so many inputs at a time
        allowed = iter(constraint.split(parts))
        # Blocks end where groups of inputs that are chosen together do.
        step = max(1, self.block_size // chosen) * chosen
        for first in range(0, inputs, step):
            block = slice(first, min(first + step, inputs))
            errors = torch.zeros_like(weights[:, :, block])
            for a in range(block.start, block.stop, chosen):
                here = slice(a, min(a + chosen, inputs))
                pivots = factors.diagonal(dim1=1, dim2=2)[:, None, here]
                # w_j²/U_jj²: what removing input j costs, with those before it fixed
                scores = weights[:, :, here] / pivots
                mask[:, :, here] = next(allowed).select(scores.flatten()).view_as(scores)
                _prune(weights, mask, factors, here, block, errors)
            # What later blocks make good, for all inputs of this block in one product.
            weights[:, :, block.stop :] -= errors @ factors[:, block, block.stop :]
        kept = mask.flatten()
        return Found(weights=torch.where(kept, weights.flatten(), 0), mask=kept)


def _together(constraint: Divisible) -> int | None:
    """Return the number of inputs chosen together, where the constraint names it: M of N:M."""
    if not isinstance(constraint, KeepKInGroups) or len(constraint.members) != 1:
        return None
    # Consecutive members in every group, and no weight kept beyond the groups' least.
    (members,), (least,) = constraint.members, constraint.least
    neighbours = bool((members.diff(dim=1) == 1).all())
    return members.shape[1] if neighbours and int(least.sum()) == constraint.k else None


def _prune(
    weights: Tensor, mask: Tensor, factors: Tensor, here: slice, block: slice, errors: Tensor
) -> None:
    """Remove what `mask` does not keep of some inputs; the rest of their block makes it good.

    `weights` change in place; `errors` take what inputs after the block have to make good.
    """
    for j in range(here.start, here.stop):
        # w ← w - (w_j/U_jj) U_j: row j of U begins at j, so weights before it stay.
        removed = torch.where(mask[:, :, j], 0, weights[:, :, j])
        error = removed / factors[:, j, j].unsqueeze(1)
        follows = factors[:, None, j, j : block.stop]
        weights[:, :, j : block.stop] -= error.unsqueeze(2) * follows
        errors[:, :, j - block.start] = error
