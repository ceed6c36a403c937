"""Combinatorial brain surgeon: swaps choose what to remove together, then the exact update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.options import option
from chita.problem import LocalQuadratic
from chita.solvers.solver import EVERYTHING, Effort, Found, Solver, Status
from chita.solvers.swaps import first_among, lowest_pair

_MOST_CHUNKS = 1000
_LARGEST = 1e15  # score, whose square float32 can hold
_APART = 1.1  # ratio of the rounds after which masks are judged


@final
class CBS(Solver):
    """Swaps lower E(P) = ½ w̄_Pᵀ H_PP w̄_P over the removed set P; then a back-solve.

    E is what removing P costs while all other weights stay, so it counts how removals cancel.

    1. The beginning is the best of the largest weights and of `draws` masks around them: weights
       are dealt at random into √p chunks (1,000 at most), and each is measured by the weight that
       its chunk by itself would keep last.
    2. A round takes the `candidates` weights of each side that lower E most and raise it least
       alone, prices their pairs exactly at one pass over the rows, and makes the best allowed swap
       until none of these pairs lowers E; a weight moves once at most. Rounds end when one gains
       less than `tolerance` of E.
    3. The best mask met is kept, and Q is minimised on it (CBS-U).

    In 1 and 3 the best is that of least loss, weights unchanged, on validation samples; of least
    E where the problem has no `loss` (a run with `validation=0`). E is a poor judge: late rounds
    lower it and the accuracy with it.

    Yu et al., The combinatorial brain surgeon (2022), CBS-S (Algorithm 1) and CBS-U; λ is the
    damping of the update, 1e-3 for MLPNet and 1e-5 for ResNet20 there. Departures: they judge by
    the samples of the rows, we by those held out; they round the number that a chunk keeps up
    (their code keeps 712 of MLPNet's weights where 2 % are 647), our counts are those of the
    budget; they swap the first pair that gains among weights at most 10 ranks apart, we the best;
    their tolerance, 1e-4, is absolute and for a swap; they judge after every round, we from the
    tenth on more and more rarely. Where Q has a first-order term the update minimises it also,
    while the choice takes the gradient as zero, as there.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.ones(3, 1)))  # so E = ½(sum of what is removed)²
    >>> w_bar = torch.tensor([3.0, -3.0, 1.0])  # the first two cancel
    >>> q = LocalQuadratic(w_bar=w_bar, curvature=h, ridge=1.0, shift=h.constant(0.0))
    >>> CBS(update=False).solve(q, KeepK(size=3, k=1)).weights
    tensor([0., 0., 1.])
    """

    update: bool = option(
        True, "Minimise over the weights that stay; otherwise they do not change (CBS-S)."
    )
    draws: int = option(100, "Random masks drawn for the beginning.", at_least=0)
    candidates: int = option(100, "Weights of each side in a round of swaps.", at_least=1)
    tolerance: float = option(
        1e-4, "A round that lowers E by no more than this share of it is the last.", at_least=0
    )
    max_rounds: int = option(100, "Rounds of swaps at most.", at_least=0)
    seed: int = option(0, "Seed of the draws.", at_least=0)

    asks_loss: ClassVar[bool] = True

    @property
    def effort(self) -> Effort:
        """A pass for each draw, which a look at the network replaces; some tens of rounds."""
        streams = self.draws + 2 * min(self.max_rounds, 40) + 4
        return Effort(streams=streams, systems=int(self.update))

    @property
    def brief(self) -> CBS:
        """Ten draws and twenty rounds."""
        draws, rounds = min(self.draws, 10), min(self.max_rounds, 20)
        return replace(self.without_bound, draws=draws, max_rounds=rounds)

    @property
    def tunable(self) -> frozenset[str]:
        """Not the blocks, as E couples all weights; nothing where those that stay do not change."""
        return EVERYTHING - {"structure"} if self.update else frozenset()

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        mask, status = self._selected(problem, constraint)
        if not self.update:
            return Found.mask_alone(problem, mask, status)
        minimum = problem.minimise_on(mask.nonzero().squeeze(1))
        return Found.at(minimum, mask, status)

    def _selected(self, problem: LocalQuadratic, constraint: Constraint) -> tuple[Tensor, Status]:
        judge = _judge(problem)
        judged_starts = ((judge(mask), mask) for mask in self._starts(problem, constraint))
        lowest, mask = min(judged_starts, key=lambda start: start[0])  # the first among equals
        removal, status, judged = Removal(problem, mask), Status.ITERATION_LIMIT, 0
        for done in range(1, self.max_rounds + 1):
            gain = removal.swap_round(constraint, self.candidates)
            ended = gain <= self.tolerance * removal.cost
            # A judgement is a pass over samples in a run, so it comes more and more rarely.
            if ended or done >= _APART * judged or done == self.max_rounds:
                judged, loss = done, judge(removal.mask)
                if loss < lowest:
                    mask, lowest = removal.mask.clone(), loss
            if ended:
                status = Status.CONVERGED
                break
        return mask, status

    def _starts(self, problem: LocalQuadratic, constraint: Constraint) -> Iterator[Tensor]:
        largest = constraint.select(problem.w_bar)
        yield largest
        share = float(largest.double().mean())
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        for _ in range(self.draws if 0 < share < 1 else 0):
            drawn = constraint.select(_dealt(problem.w_bar, share, generator))
            if not torch.equal(drawn, largest):
                yield drawn


def _judge(problem: LocalQuadratic) -> Callable[[Tensor], float]:
    """Return the measure of a mask: the loss on validation samples, or E."""
    loss = problem.loss
    if loss is None:
        return lambda mask: _energy(problem, mask)

    def judged(mask: Tensor) -> float:
        """Return the loss, infinite where it is no number."""
        value = loss(torch.where(mask, problem.w_bar, 0))
        return math.inf if math.isnan(value) else value

    return judged


def _energy(problem: LocalQuadratic, mask: Tensor) -> float:
    """Return E of what a mask removes, in the type of the weights."""
    removed = (~mask).nonzero().squeeze(1)
    image = problem.curvature.image(problem.w_bar[removed], removed)
    return 0.5 * problem.curvature.inner(image, image)


def _dealt(w_bar: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return each |w̄_j| (p,) over that of the last weight which a random chunk around it keeps."""
    p = len(w_bar)
    chunks = min(max(1, math.isqrt(p)), _MOST_CHUNKS)
    width = math.ceil(p / chunks)
    order = torch.randperm(p, generator=generator, device="cpu").to(w_bar.device)
    sizes = w_bar.abs()
    dealt = sizes.new_zeros(chunks * width)
    dealt[:p] = sizes[order]
    dealt = dealt.view(chunks, width)
    # Sizes over the last one that their chunk keeps: from one on a score is kept there, so chunks
    # of larger weights get no more of the mask.
    first = dealt.topk(max(1, round(share * width)), dim=1).values
    last = torch.where(first > 0, first, torch.inf).amin(1, keepdim=True)  # zeros are not kept
    scores = torch.empty_like(sizes)
    scores[order] = (dealt / last).flatten()[:p].clamp_max(_LARGEST)
    return scores


class Removal:
    """A removed set P, the zeros of `mask` (p,)."""

    def __init__(self, problem: LocalQuadratic, mask: Tensor) -> None:
        self._problem = problem
        self._w_bar = problem.w_bar.double()
        self.mask = mask.clone()
        removed = (~mask).nonzero().squeeze(1)
        self._image = problem.curvature.image(self._w_bar[removed], removed)
        self._own = 0.5 * problem.curvature.diagonal().double() * self._w_bar.square()

    @property
    def cost(self) -> float:
        """E(P)."""
        return 0.5 * self._problem.curvature.inner(self._image, self._image)

    def swap_round(self, constraint: Constraint, candidates: int) -> float:
        """Make the best swaps among the candidates of each side; return what E lost, or 0."""
        curvature, w_bar, own = self._problem.curvature, self._w_bar, self._own
        # E is quadratic in the removed set: ∂E along the removal of j is w̄_j [H w̄_P]_j.
        slope = w_bar * curvature.pullback(self._image).double()
        # E changes by `slope + own` where a kept weight goes, `own - slope` where one comes back
        out = first_among(self.mask, -(slope + own), candidates)
        enter = first_among(~self.mask, slope - own, candidates)
        pool = torch.cat([out, enter])
        # All pairs of the pool at once: w̄_i H_ij w̄_j
        coupled = w_bar[pool].unsqueeze(1) * curvature.block(pool) * w_bar[pool]
        slope, own = slope[pool], own[pool]
        cut, before = len(out), self.cost
        while True:
            # One goes and one comes back: both changes, less what couples them.
            change = (slope + own)[:cut].unsqueeze(1) + (own - slope)[cut:] - coupled[:cut, cut:]
            kept = self.mask[pool]
            moves = kept[:cut].unsqueeze(1) & ~kept[cut:]
            moves &= constraint.swaps(self.mask, out, enter)
            j, i, lowest = lowest_pair(change, moves)
            if not -lowest > self._problem.rounding:
                break
            i += cut
            self.mask[pool[j]], self.mask[pool[i]] = False, True
            # The slope follows the swap within the pool, without a pass over the rows.
            slope = slope + coupled[j] - coupled[i]
        self._move(pool, cut)
        return before - self.cost

    def _move(self, pool: Tensor, cut: int) -> None:
        """Bring the image to the mask; the first `cut` of the pool were kept, the rest not."""
        was = torch.arange(len(pool), device=pool.device) < cut
        moved = pool[was != self.mask[pool]].sort().values
        if len(moved):
            signs = torch.where(self.mask[moved], -1.0, 1.0)
            self._image = self._image + self._problem.curvature.image(
                signs * self._w_bar[moved], moved
            )
