"""The best of many weights under a count and a cost: the dual over the price of cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.linalg.select import kth_largest

_SAMPLE = 100_000  # scores by which the price is guessed, where there are many
_AROUND = 0.02  # relative margin of the first bracket around the guess
_STEPS = 200  # of bisection at most


@final
@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """The dual solution: the prices `cost` μ of a unit of cost and `place` ω of one of k places."""

    cost: float
    place: float


def worth(scores: Tensor, costs: Tensor, price: float) -> Tensor:
    """Return score - price·cost of weights (p,), or of one cost, rounded in one way everywhere.

    >>> worth(torch.tensor([3.0, 1.0]), torch.tensor(2.0), 0.5)
    tensor([2., 0.])
    """
    return scores - costs * price


def multipliers(
    scores: Tensor, costs: Sequence[int], segments: Sequence[slice], k: int, limit: int
) -> Multipliers:
    """Return prices at which the weights worth more than they cost fit both budgets.

    A weight of segment t is worth score - μ·costs[t]; ω is the k-th largest worth, zero if that is
    negative or k is not reached. The cost of the weights worth more than ω falls as μ grows, so
    the smallest μ at which it is within the limit is found by bisection, each step by selection:
    weights on the same side at both ends of the bracket are decided, and leave it. If there are
    many, a sample gives the first bracket, and what it decides there is checked by counting.

    The dual of the linear relaxation: Meng et al., FALCON (AISTATS 2024). Departure: there every
    layer is sorted beforehand.

    Args:
        scores: (p,), at least 0; infinite ones are taken whatever they cost.
        costs: of one weight of each segment, at least 0.
        segments: consecutive slices that cover the p weights.
        k: weights at most.
        limit: cost at most.
    """
    each = torch.empty_like(scores)
    for cost, segment in zip(costs, segments, strict=True):
        each[segment] = cost
    opened = _Open(scores=scores, costs=each, k=k, limit=limit, below=0.0)
    low, high = 0.0, _highest(scores, costs, segments)
    if len(scores) > 4 * _SAMPLE:
        opened, low, high = _narrowed(opened, low, high)
    found = _bisected(opened, low, high, 0.0)
    return Multipliers(cost=found, place=opened.place(found))


@dataclass(frozen=True, kw_only=True)
class _Open:
    """Undecided weights: `scores`, `costs`, how many of them may be taken, and at what cost.

    `below` is at least the worth of every weight that was decided to be left out.
    """

    scores: Tensor
    costs: Tensor
    k: int
    limit: float
    below: float

    def place(self, price: float, net: Tensor | None = None) -> float:
        """Return ω at a price of cost."""
        # If all that are undecided may be taken, the k-th largest worth is among those left out.
        if self.k >= len(self.scores):
            return max(0.0, self.below)
        net = self.worth(price) if net is None else net
        # With no place among these, it is among those taken: no undecided weight may exceed it.
        if self.k == 0:
            return max(0.0, float(net.max()))
        # Weights that were decided are all above or all below these, so the rank is k here too.
        return max(0.0, float(kth_largest(net, self.k)))

    def worth(self, price: float) -> Tensor:
        return worth(self.scores, self.costs, price)

    def fits(self, price: float) -> tuple[bool, float]:
        """Return whether the weights worth more than a place stay within the limit, and ω."""
        net = self.worth(price)
        place = self.place(price, net)
        return float(self.costs[net > place].sum(dtype=torch.float64)) <= self.limit, place

    def between(self, low: float, high: float, dear: float, cheap: float) -> _Open:
        """Return those whose side differs over a bracket, with ω from `dear` down to `cheap`."""
        # Worth and ω both fall as μ grows. A weight that at the highest price is worth more than
        # the largest ω is taken at every price between; one that at the lowest price is not worth
        # the smallest ω is taken at none.
        taken = self.worth(high) > dear
        left = self.worth(low) <= cheap
        still = ~(taken | left)
        return _Open(
            scores=self.scores[still],
            costs=self.costs[still],
            k=self.k - int(taken.sum()),
            limit=self.limit - float(self.costs[taken].sum(dtype=torch.float64)),
            below=max(cheap, self.below),
        )


def _highest(scores: Tensor, costs: Sequence[int], segments: Sequence[slice]) -> float:
    """Return a price above which no finite score is worth its cost."""
    highest = 1.0
    for cost, segment in zip(costs, segments, strict=True):
        part = scores[segment]
        if cost and len(part):
            finite = part[torch.isfinite(part)]  # floors are infinite, and taken at any price
            highest = max(highest, 2 * float(finite.max()) / cost if len(finite) else 0.0)
    return highest


def _narrowed(whole: _Open, low: float, high: float) -> tuple[_Open, float, float]:
    """Return the weights that are undecided near the price of a sample, and a bracket around it.

    Returns all weights and the given bracket if no margin around the sample's bounds holds.
    """
    # Every step-th weight, with the same share of places and of the limit.
    step = len(whole.scores) // _SAMPLE
    few = whole.k < len(whole.scores)
    sampled = _Open(
        scores=whole.scores[::step],
        costs=whole.costs[::step],
        k=whole.k // step if few else whole.k,
        limit=whole.limit / step,
        below=0.0,
    )
    guess = _bisected(sampled, low, high, 1e-4)
    for margin in (_AROUND, 4 * _AROUND, 16 * _AROUND) if guess else ():
        below, above = guess * (1 - margin), guess * (1 + margin)
        dear = sampled.place(below) * (1 + margin)
        cheap = sampled.place(above) * (1 - margin)
        # Two counts over all weights prove these bounds of ω: fewer than k weights are worth more
        # than the upper one at the low price, and k at least as much as the lower one at the high.
        if few and int((whole.worth(below) > dear).sum()) >= whole.k:
            continue
        if cheap > 0 and int((whole.worth(above) >= cheap).sum()) < whole.k:
            continue
        opened = whole.between(below, above, dear, cheap)
        # The smallest price that fits is inside if the bracket's ends differ.
        if not opened.fits(below)[0] and opened.fits(above)[0]:
            return opened, below, above
    return whole, low, high


def _bisected(opened: _Open, low: float, high: float, tolerance: float) -> float:
    """Return the smallest price that fits, from above, as near as the scores' type resolves it."""
    # Below two units of rounding of the scores, worth does not change with the price.
    tolerance = max(tolerance, 2 * torch.finfo(opened.scores.dtype).eps)
    fits, dear = opened.fits(low)
    if fits:  # the limit does not bind, so that its price is the lowest
        return low
    _, cheap = opened.fits(high)
    for _ in range(_STEPS):
        # Each step passes over what is still undecided only, so that all take about two passes.
        opened = opened.between(low, high, dear, cheap)
        middle = 0.5 * (low + high)
        if not len(opened.scores) or not low < middle < high or high - low <= tolerance * high:
            break
        fits, place = opened.fits(middle)
        if fits:
            high, cheap = middle, place
        else:
            low, dear = middle, place
    return high
