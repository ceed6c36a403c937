"""Numbers of weights and of operations, both at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from chita.constraints.constraint import Constraint, check_floors, floors_left
from chita.constraints.knapsack import Multipliers, multipliers, worth
from chita.errors import InputError
from chita.layout import counts_in, lengths, owners, segments_of
from chita.linalg.select import check_ranked, largest, largest_magnitude

_EQUAL = 1e-6  # scores of at most 1 that differ by less, by rounding of the price
_LAST = 2**62  # in place of a cost, for weights whose order by worth stays


@final
@dataclass(frozen=True, kw_only=True)
class UnderFlops(Constraint):
    """The masks of at most k of p weights that take at most `limit` multiply-adds.

    Kept are at least `least[t]` weights of segment t. A mask that is allowed leaves nothing out
    that still fits.

    `select` takes the weights that are worth their price (`chita.constraints.knapsack`), and then
    of the rest, by worth, what still fits. Its sum is within one or a few weights of the best, an
    integer programme; `ceiling` bounds how far.

    Fields: `size` p; `k`; `limit`; `costs`, multiply-adds of one weight of each segment;
    `segments`, consecutive slices that cover the p weights; `least`.

    >>> halves = (slice(0, 2), slice(2, 4))
    >>> few = UnderFlops(size=4, k=3, limit=4, costs=(3, 1), segments=halves, least=(0, 0))
    >>> few.select(torch.tensor([9.0, 8.0, 2.0, 1.0]))
    tensor([ True, False,  True, False])
    """

    size: int
    k: int
    limit: int
    costs: tuple[int, ...]
    segments: tuple[slice, ...]
    least: tuple[int, ...]

    def __post_init__(self) -> None:
        floors = sum(self.least)
        check_floors(self.size, self.k, floors, f"{len(self.least)} tensors")
        dear = self._cost(self.least)
        if dear > self.limit:
            raise InputError(
                f"{self.limit:,} multiply-adds are allowed, but those of {floors} weights that "
                f"`min_keep` keeps are {dear:,}. Allow as many, or lower `min_keep`."
            )

    def select(self, values: Tensor) -> Tensor:
        """Return the weights that are worth their price, then those that still fit, by worth."""
        scores, _ = _scores(values)
        # Weights of a segment cost the same, so its `least` largest are in a best mask. An infinite
        # score takes them at any price, and trades never give them up.
        for segment, least in zip(self.segments, self.least, strict=True):
            part = scores[segment]  # a view
            part[largest(part, least)] = torch.inf
        found = multipliers(scores, self.costs, self.segments, self.k, self.limit)
        mask = torch.empty_like(scores, dtype=torch.bool)
        # The relaxed programme's solution: x = 1 where v² - μc > ω. What is equal to ω would be
        # taken in part; whole weights are chosen among those by the two steps that follow.
        for cost, segment in zip(self.costs, self.segments, strict=True):
            each = torch.tensor(cost, dtype=scores.dtype, device=scores.device)
            mask[segment] = worth(scores[segment], each, found.cost) > found.place
        return self._traded(scores, self._filled(scores, mask, found))

    def ceiling(self, values: Tensor, mask: Tensor) -> float:
        """Return the value of the dual, without floors: μ·limit + ω·k + Σ(v² - μc - ω)₊."""
        scores, scale = _scores(values)
        found = multipliers(scores, self.costs, self.segments, self.k, self.limit)
        # Weak duality: at any μ, ω >= 0 this is at least the sum of every mask within both limits,
        # so that it holds however well the price was found. Floors only make fewer masks allowed.
        total = found.cost * self.limit + found.place * self.k
        for cost, segment in zip(self.costs, self.segments, strict=True):
            gains = scores[segment].double() - (found.cost * cost + found.place)
            total += float(gains.clamp_min(0).sum())
        return total * scale**2

    def allows(self, mask: Tensor) -> bool:
        """Return whether both limits and the floors hold, and nothing more would fit."""
        if len(mask) != self.size:
            return False
        counts, spare = self._kept(mask)
        enough = all(count >= least for count, least in zip(counts, self.least, strict=True))
        return enough and sum(counts) <= self.k and spare >= 0 and self._is_full(counts, spare)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return those after which both limits and the floors hold, and nothing more would fit."""
        counts, spare = self._kept(mask)
        tensors = len(self.costs)
        # A swap changes counts by its two segments only, so that one answer is enough per pair.
        table = torch.zeros(tensors, tensors, dtype=torch.bool, device="cpu")
        for i in range(tensors):
            for j in range(tensors):
                left = spare + self.costs[i] - self.costs[j]
                after = list(counts)
                after[i] -= 1
                after[j] += 1
                fits = after[i] >= self.least[i] and left >= 0
                table[i, j] = fits and self._is_full(after, left)
        leaving, entering = owners(out, self.segments), owners(enter, self.segments)
        return table.to(mask.device)[leaving][:, entering]

    def restrict(self, index: Tensor, kept: Tensor) -> UnderFlops:
        """Return what the limits leave for the named weights, and the floors still ask of them."""
        segments = segments_of(index, self.segments)
        used = lengths(segments_of(kept, self.segments))
        return replace(
            self,
            size=len(index),
            k=min(len(index), self.k - len(kept)),
            limit=self.limit - self._cost(used),
            segments=segments,
            least=floors_left(self.least, used, lengths(segments)),
        )

    def cost(self, mask: Tensor) -> int:
        """Return the multiply-adds of what a mask keeps."""
        return self._cost(counts_in(mask, self.segments))

    def binds(self, mask: Tensor) -> bool:
        """Return whether the limit of multiply-adds keeps a weight out that is removed."""
        counts, spare = self._kept(mask)
        removed = zip(counts, lengths(self.segments), self.costs, strict=True)
        return any(count < size and cost > spare for count, size, cost in removed)

    def _kept(self, mask: Tensor) -> tuple[list[int], int]:
        """Return how many weights a mask keeps of each segment, and the multiply-adds left."""
        counts = counts_in(mask, self.segments)
        return counts, self.limit - self._cost(counts)

    def _cost(self, counts: Sequence[int]) -> int:
        return sum(count * cost for count, cost in zip(counts, self.costs, strict=True))

    def _fitting(self, counts: list[int], spare: int) -> list[int]:
        """Return the segments of which one more weight would fit."""
        rows = enumerate(zip(counts, lengths(self.segments), self.costs, strict=True))
        return [t for t, (count, size, cost) in rows if count < size and cost <= spare]

    def _is_full(self, counts: list[int], spare: int) -> bool:
        """Return whether no weight more would fit."""
        return sum(counts) == self.k or not self._fitting(counts, spare)

    def _filled(self, scores: Tensor, mask: Tensor, found: Multipliers) -> Tensor:
        """Take what still fits, the best by worth first, until nothing does."""
        counts, spare = self._kept(mask)
        places = self.k - sum(counts)
        index, gains, costs = [], [], []
        # Of each segment only so many as could fit by themselves, so that little is sorted.
        for t in self._fitting(counts, spare) if places else []:
            segment, cost = self.segments[t], self.costs[t]
            outside = (~mask[segment]).nonzero().squeeze(1)
            most = min(len(outside), places, spare // cost if cost else places)
            part = scores[segment][outside]
            best = largest(part, most)
            index.append(outside[best] + segment.start)
            gains.append(part[best].double() - found.cost * cost)
            costs.append(torch.full((most,), cost, dtype=torch.long, device=mask.device))
        if not index:
            return mask
        order = torch.cat(gains).argsort(descending=True, stable=True)
        # The price makes the last weights of several segments worth the same ω, to rounding. Of
        # these the cheapest come first, since most of them fit; `_traded` finds dearer ones. The
        # second sort is stable: the rest stay in the order of worth behind them.
        tied = torch.cat(gains)[order] >= found.place - _EQUAL
        order = order[torch.where(tied, torch.cat(costs)[order], _LAST).argsort(stable=True)]
        which, each = torch.cat(index)[order], torch.cat(costs)[order]
        while places and len(which):
            # Take the longest run from the front that fits; then drop the weights that are dearer
            # than what is left, of which the first stopped the run, and go on behind it.
            fitting = each.cumsum(0)[:places] <= spare
            first = len(fitting) if bool(fitting.all()) else int(fitting.int().argmin())
            mask[which[:first]] = True
            places, spare = places - first, spare - int(each[:first].sum())
            which, each = which[first:], each[first:]
            still = each <= spare
            which, each = which[still], each[still]
        return mask

    def _traded(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Trade kept weights for dearer ones of a higher score, if the count binds.

        Of many weights with equal scores, those that fit best are not those worth most.
        """
        counts, spare = self._kept(mask)
        # Each trade raises the sum, so this ends; the bound is for time. If the count does not bind
        # a dearer weight that fits is already in.
        for _ in range(8 * len(counts) if sum(counts) == self.k else 0):
            trade = self._best_trade(scores, mask, counts, spare)
            if trade is None:
                break
            out, enter = trade
            # All weights of one score trade at once: the lowest kept of a segment for the highest
            # removed of the other, as many as both have, the floor lets go and the limit allows.
            places = []
            for t, kept in ((out, True), (enter, False)):
                score = self._edge(scores, mask, t, kept=kept)
                part = self.segments[t]
                equal = (mask[part] == kept) & (scores[part] == score)
                places.append(equal.nonzero().squeeze(1) + part.start)
            extra = self.costs[enter] - self.costs[out]
            most = min(*map(len, places), counts[out] - self.least[out])
            most = min(most, spare // extra) if extra > 0 else most
            # Ties keep the lower index: the last of those kept go, the first of those removed come.
            mask[places[0][len(places[0]) - most :]] = False
            mask[places[1][:most]] = True
            counts[out], counts[enter] = counts[out] - most, counts[enter] + most
            spare -= most * extra
        return mask

    def _best_trade(
        self, scores: Tensor, mask: Tensor, counts: list[int], spare: int
    ) -> tuple[int, int] | None:
        """Return the segments between which a trade gains most, from and to; None if none gains."""
        # Within a segment all cost the same, so that only the lowest kept and the highest removed
        # of each can be in the best trade of one weight for another.
        worst = [
            self._edge(scores, mask, t, kept=True) if count > least else torch.inf
            for t, (count, least) in enumerate(zip(counts, self.least, strict=True))
        ]
        best = [
            self._edge(scores, mask, t, kept=False) if count < size else -torch.inf
            for t, (count, size) in enumerate(zip(counts, lengths(self.segments), strict=True))
        ]
        # By the largest gain, and among equals the first segments.
        gains = [
            (best[j] - worst[i], -i, -j)
            for i, out in enumerate(self.costs)
            for j, enter in enumerate(self.costs)
            if enter - out <= spare and best[j] > worst[i]
        ]
        if not gains:
            return None
        _, i, j = max(gains)
        return -i, -j

    def _edge(self, scores: Tensor, mask: Tensor, t: int, *, kept: bool) -> float:
        """Return the lowest score kept of a segment, or the highest removed."""
        part, own = scores[self.segments[t]], mask[self.segments[t]]
        if kept:
            return float(torch.where(own, part, torch.inf).min())
        return float(torch.where(own, -torch.inf, part).max())


def _scores(values: Tensor) -> tuple[Tensor, float]:
    """Return squares of values over a scale, so that none exceeds 1, and the scale.

    Raises `NumericalError` on NaN.
    """
    check_ranked(values)
    scale = float(largest_magnitude(values)) if len(values) else 0.0
    scale = scale or 1.0
    # Squares of tiny or huge float32 values would vanish or overflow without the scale.
    return (values / scale).square(), scale
