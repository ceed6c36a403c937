"""Numbers of weights and of operations, both at most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.constraints.constraint import Constraint
from chita.constraints.knapsack import Prices, prices, worth
from chita.errors import InputError
from chita.layout import segments_of
from chita.linalg.select import check_ranked, kth_largest, largest, largest_magnitude

_EQUAL = 1e-6  # scores of at most 1 that differ by less, by rounding of the price
_LAST = 2**62


@final
@dataclass(frozen=True, kw_only=True)
class UnderFlops(Constraint):
    """At most k of p weights are kept, and at most `limit` multiply-adds, where each costs some.

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
        if floors > self.k:
            raise InputError(
                f"{self.k} of {self.size} weights may be kept, but {floors} at least over "
                f"{len(self.least)} tensors. Keep more, or lower `min_keep`."
            )
        dear = sum(least * cost for least, cost in zip(self.least, self.costs, strict=True))
        if dear > self.limit:
            raise InputError(
                f"{self.limit:,} multiply-adds are allowed, but those of {floors} weights that "
                f"`min_keep` keeps are {dear:,}. Allow as many, or lower `min_keep`."
            )

    def select(self, values: Tensor) -> Tensor:
        """What is worth its price, then what still fits, by worth.

        The largest weights of every segment that its floor holds are in every best mask, so they
        are taken first.
        """
        scores, _ = _scores(values)
        for segment, least in zip(self.segments, self.least, strict=True):
            if least:
                part = scores[segment]
                last = part.max() if least == 1 else kth_largest(part, least)
                part[largest(part, least, last)] = torch.inf
        return self._selected(scores)

    def ceiling(self, values: Tensor, mask: Tensor) -> float:
        """The value of the dual at its prices, without floors: μ·limit + ω·k + Σ(v² - μc - ω)₊."""
        scores, scale = _scores(values)
        found = self._prices(scores)
        total = found.cost * self.limit + found.place * self.k
        for cost, segment in zip(self.costs, self.segments, strict=True):
            gains = scores[segment].double() - (found.cost * cost + found.place)
            total += float(gains.clamp_min(0).sum())
        return total * scale**2

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask is within both budgets and keeps enough, and nothing more would fit."""
        if len(mask) != self.size:
            return False
        counts = self._counts(mask)
        spare = self.limit - self._cost(counts)
        if sum(counts) > self.k or spare < 0:
            return False
        if any(count < least for count, least in zip(counts, self.least, strict=True)):
            return False
        return sum(counts) == self.k or not self._fitting(counts, spare)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Those after which both budgets hold, enough is kept, and nothing more would fit."""
        counts = self._counts(mask)
        spare = self.limit - self._cost(counts)
        tensors = len(self.costs)
        table = torch.zeros(tensors, tensors, dtype=torch.bool)
        for i in range(tensors):
            for j in range(tensors):
                left = spare + self.costs[i] - self.costs[j]
                after = list(counts)
                after[i] -= 1
                after[j] += 1
                table[i, j] = (
                    after[i] >= self.least[i]
                    and left >= 0
                    and (sum(counts) == self.k or not self._fitting(after, left))
                )
        ends = torch.tensor([segment.stop for segment in self.segments], device=mask.device)
        leaving, entering = (torch.bucketize(index, ends, right=True) for index in (out, enter))
        return table.to(mask.device)[leaving][:, entering]

    def restrict(self, index: Tensor, kept: Tensor) -> UnderFlops:
        """What the budgets leave for the named weights, and the floors still ask of them."""
        segments = segments_of(index, self.segments)
        used = [there.stop - there.start for there in segments_of(kept, self.segments)]
        least = tuple(
            min(max(0, least - count), here.stop - here.start)
            for least, count, here in zip(self.least, used, segments, strict=True)
        )
        return UnderFlops(
            size=len(index),
            k=min(len(index), self.k - len(kept)),
            limit=self.limit - self._cost(used),
            costs=self.costs,
            segments=segments,
            least=least,
        )

    def cost(self, mask: Tensor) -> int:
        """Return the multiply-adds of what a mask keeps."""
        return self._cost(self._counts(mask))

    def binds(self, mask: Tensor) -> bool:
        """Return whether the limit of multiply-adds keeps a weight out that is removed."""
        left = self.limit - self.cost(mask)
        removed = zip(self._counts(mask), self._sizes, self.costs, strict=True)
        return any(count < size and cost > left for count, size, cost in removed)

    @cached_property
    def _sizes(self) -> list[int]:
        return [segment.stop - segment.start for segment in self.segments]

    def _counts(self, mask: Tensor) -> list[int]:
        return [int(mask[segment].sum()) for segment in self.segments]

    def _cost(self, counts: list[int]) -> int:
        return sum(count * cost for count, cost in zip(counts, self.costs, strict=True))

    def _fitting(self, counts: list[int], spare: int) -> list[int]:
        """The segments of which one more weight would fit."""
        return [
            t
            for t, (count, size, cost) in enumerate(
                zip(counts, self._sizes, self.costs, strict=True)
            )
            if count < size and cost <= spare
        ]

    def _prices(self, scores: Tensor) -> Prices:
        k = min(self.k, self.size)
        return prices(scores, self.costs, self.segments, k, self.limit)

    def _selected(self, scores: Tensor) -> Tensor:
        found = self._prices(scores)
        mask = torch.empty_like(scores, dtype=torch.bool)
        for cost, segment in zip(self.costs, self.segments, strict=True):
            each = torch.tensor(cost, dtype=scores.dtype, device=scores.device)
            mask[segment] = worth(scores[segment], each, found.cost) > found.place
        return self._traded(scores, self._filled(scores, mask, found))

    def _filled(self, scores: Tensor, mask: Tensor, found: Prices) -> Tensor:
        """Take what still fits, the best by worth first, until nothing does."""
        counts = self._counts(mask)
        places, spare = self.k - sum(counts), self.limit - self._cost(counts)
        index, gains, costs = [], [], []
        for t in self._fitting(counts, spare) if places else []:
            segment, cost = self.segments[t], self.costs[t]
            outside = (~mask[segment]).nonzero().squeeze(1)
            most = min(len(outside), places, spare // cost if cost else places)
            part = scores[segment][outside]
            best = largest(part, most, kth_largest(part, most))
            index.append(outside[best] + segment.start)
            gains.append(part[best].double() - found.cost * cost)
            costs.append(torch.full((most,), cost, dtype=torch.long, device=mask.device))
        if not index:
            return mask
        order = torch.cat(gains).argsort(descending=True, stable=True)
        # Of weights that are worth a place, as good as equally, the cheapest: the others may follow
        # by trade.
        tied = torch.cat(gains)[order] >= found.place - _EQUAL
        order = order[torch.where(tied, torch.cat(costs)[order], _LAST).argsort(stable=True)]
        which, each = torch.cat(index)[order], torch.cat(costs)[order]
        while places and len(which):
            fitting = each.cumsum(0)[:places] <= spare
            first = len(fitting) if bool(fitting.all()) else int(fitting.int().argmin())
            mask[which[:first]] = True
            places, spare = places - first, spare - int(each[:first].sum())
            which, each = which[first:], each[first:]
            still = each <= spare
            which, each = which[still], each[still]
        return mask

    def _traded(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Where the count binds, trade kept weights for dearer ones of a higher score.

        Where many weights have equal scores, those that fit best are not those worth most.
        """
        counts = self._counts(mask)
        spare = self.limit - self._cost(counts)
        for _ in range(8 * len(counts) if sum(counts) == self.k else 0):
            trade = self._best_trade(scores, mask, counts, spare)
            if trade is None:
                break
            out, enter = trade
            places = []
            for t, kept in ((out, True), (enter, False)):
                score = self._edge(scores, mask, t, kept=kept)
                part = slice(self.segments[t].start, self.segments[t].stop)
                equal = (mask[part] == kept) & (scores[part] == score)
                places.append(equal.nonzero().squeeze(1) + part.start)
            extra = self.costs[enter] - self.costs[out]
            most = min(*map(len, places), counts[out] - self.least[out])
            most = min(most, spare // extra) if extra > 0 else most
            mask[places[0][len(places[0]) - most :]] = False
            mask[places[1][:most]] = True
            counts[out], counts[enter] = counts[out] - most, counts[enter] + most
            spare -= most * extra
        return mask

    def _best_trade(
        self, scores: Tensor, mask: Tensor, counts: list[int], spare: int
    ) -> tuple[int, int] | None:
        """The segments between which a trade gains most, from and to; None where none gains."""
        worst = [
            self._edge(scores, mask, t, kept=True) if count > least else torch.inf
            for t, (count, least) in enumerate(zip(counts, self.least, strict=True))
        ]
        best = [
            self._edge(scores, mask, t, kept=False) if count < size else -torch.inf
            for t, (count, size) in enumerate(zip(counts, self._sizes, strict=True))
        ]
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
        """The lowest score kept of a segment, or the highest removed."""
        part, own = scores[self.segments[t]], mask[self.segments[t]]
        if kept:
            return float(torch.where(own, part, torch.inf).min())
        return float(torch.where(own, -torch.inf, part).max())


def _scores(values: Tensor) -> tuple[Tensor, float]:
    """Squares of values over a scale, so that none exceeds 1, and the scale.

    Raises `NumericalError` on NaN.
    """
    check_ranked(values)
    scale = float(largest_magnitude(values)) if len(values) else 0.0
    scale = scale or 1.0
    return (values / scale).square(), scale
