"""A number of weights to keep, and at least some in every one of many small groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Constraint, Divisible, owner_of, places
from chita.constraints.keep_k import KeepK
from chita.errors import InputError
from chita.layout import Part, as_index
from chita.linalg.select import check_ranked

_SMALL = 8  # members of a group


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class KeepKInGroups(Divisible):
    """Exactly k of p weights are kept, at least `least` in every group.

    Every weight is in one group. Groups of similar size lie together: `members[i]` (g, m) holds
    flat indices, ascending in every row, with -1 for what a smaller group lacks, and `least[i]`
    (g,) what each row keeps at least. Where those add up to k, they are kept exactly.

    The masks allowed are the bases of a matroid, so the greedy choice in `select` is the best.

    >>> pairs = torch.tensor([[0, 1], [2, 3]])
    >>> constraint = KeepKInGroups(size=4, k=2, members=(pairs,), least=(torch.tensor([1, 1]),))
    >>> constraint.select(torch.tensor([3.0, 2.0, 1.0, 0.0]))
    tensor([ True, False,  True, False])
    """

    size: int
    k: int
    members: tuple[Tensor, ...]
    least: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        floors = self._floors
        if not floors <= self.k <= self.size:
            raise InputError(
                f"{self.k} of {self.size} weights are to be kept, but at least {floors} in groups. "
                "Keep more."
            )

    def select(self, values: Tensor) -> Tensor:
        """The largest of every group first, the rest by magnitude alone."""
        check_ranked(values)
        sizes = values.abs()
        if self._neighbours:
            (members,), (least,) = self.members, self.least
            forced = _first(sizes.view(members.shape), least.to(values.device)).flatten()
        else:
            forced = torch.zeros_like(values, dtype=torch.bool)
            for members, least in zip(self.members, self.least, strict=True):
                members = members.to(values.device)
                present = torch.where(members >= 0, sizes[members.clamp_min(0)], -1)
                forced[members[_first(present, least.to(values.device))]] = True
        if self.k == self._floors:
            return forced
        free = (~forced).nonzero().squeeze(1)
        rest = KeepK(size=len(free), k=self.k - self._floors)
        forced[free] = rest.select(values[free])
        return forced

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask keeps exactly k, and enough in every group."""
        if len(mask) != self.size or int(mask.sum()) != self.k:
            return False
        return all(
            bool((kept >= least.to(mask.device)).all())
            for kept, least in zip(self._kept(mask), self.least, strict=True)
        )

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Those within a group, and those out of a group that has more than it needs."""
        group = torch.empty(self.size, dtype=torch.long, device=mask.device)
        spare, first = [], 0
        kept = self._kept(mask)
        for members, least, count in zip(self.members, self.least, kept, strict=True):
            ids = torch.arange(first, first + len(members), device=mask.device)
            present = (members >= 0).to(mask.device)
            group[members.to(mask.device)[present]] = ids.unsqueeze(1).expand_as(present)[present]
            spare.append(count > least.to(mask.device))
            first += len(members)
        same = group[out].unsqueeze(1) == group[enter].unsqueeze(0)
        return torch.cat(spare)[group[out]].unsqueeze(1) | same

    def restrict(self, index: Tensor, kept: Tensor) -> KeepKInGroups:
        """What k and the groups still ask of the named weights, at most all of a group."""
        place, outside = places(self.size, index, kept)
        members, least = [], []
        for old, needed, used in zip(self.members, self.least, self._kept(outside), strict=True):
            old, needed = old.to(index.device), needed.to(index.device)
            new = torch.where(old >= 0, place[old.clamp_min(0)], -1)
            present = (new >= 0).sum(1)
            some = present > 0
            members.append(new[some])
            least.append((needed - used).clamp_min(0).minimum(present)[some])
        return KeepKInGroups(
            size=len(index),
            k=min(len(index), self.k - len(kept)),
            members=tuple(members),
            least=tuple(least),
        )

    def split(self, parts: Sequence[Part]) -> list[Constraint]:
        """The same share of every part, and of a group's floor what the part has of it."""
        indices = list(map(as_index, parts))
        owner = owner_of(self.size, indices)
        place = torch.empty_like(owner)
        for index in indices:
            place[index] = torch.arange(len(index), device=index.device)
        members: list[list[Tensor]] = [[] for _ in indices]
        least: list[list[Tensor]] = [[] for _ in indices]
        for own, needed in zip(self.members, self.least, strict=True):
            own, needed = own.to(place.device), needed.to(place.device)
            there = torch.where(own >= 0, owner[own.clamp_min(0)], -1)
            for i, (rows, share) in _shared(there, needed, len(indices)).items():
                inside = there[rows] == i
                members[i].append(torch.where(inside, place[own[rows].clamp_min(0)], -1))
                least[i].append(share)
        sizes = list(map(len, indices))
        needs = [sum(int(share.sum()) for share in own) for own in least]
        shares = apportion(self.k, sizes, most=sizes, least=needs)
        return [
            KeepKInGroups(size=size, k=k, members=tuple(own), least=tuple(floors))
            for size, k, own, floors in zip(sizes, shares, members, least, strict=True)
        ]

    @cached_property
    def _neighbours(self) -> bool:
        """Whether groups of one size follow each other in order."""
        if len(self.members) != 1:
            return False
        flat = self.members[0].flatten()
        return len(flat) == self.size and torch.equal(flat, torch.arange(self.size).to(flat))

    @cached_property
    def _floors(self) -> int:
        return sum(int(least.sum()) for least in self.least)

    def _kept(self, mask: Tensor) -> list[Tensor]:
        """How many of every group are kept."""
        found = []
        for members in self.members:
            members = members.to(mask.device)
            found.append((mask[members.clamp_min(0)] & (members >= 0)).sum(1))
        return found


def _first(values: Tensor, least: Tensor) -> Tensor:
    """Which are the largest of each row of values (g, m), `least` (g,) of them."""
    count = values.shape[1]
    if count <= _SMALL:  # where to compare all pairs is faster than to sort
        columns = values.T.contiguous()
        ahead = torch.arange(count - 1, -1, -1, dtype=torch.uint8, device=values.device)
        rank = ahead.unsqueeze(1).repeat(1, len(values))
        for i in range(count - 1):
            first = (columns[i] >= columns[i + 1 :]).view(torch.uint8)
            rank[i + 1 :] += first
            rank[i] -= first.sum(0, dtype=torch.uint8)
        rank = rank.T
    else:
        order = values.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order)
        places = torch.arange(order.shape[1], device=order.device).expand_as(order)
        rank.scatter_(1, order, places)
    return rank < least.unsqueeze(1)


def _shared(there: Tensor, least: Tensor, parts: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Which groups have members in each part, and how many of them it keeps at least.

    `there` (g, m) is the part of every member, -1 for none; `least` (g,), what a group keeps.
    """
    present = there >= 0
    first = there.amax(1)
    whole = ((there == first.unsqueeze(1)) | ~present).all(1)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    cut = (~whole).nonzero().squeeze(1)
    counts = torch.stack([(there[cut] == i).sum(1) for i in range(parts)], 1) if len(cut) else None
    ordered = torch.where(whole, first, -1).argsort(stable=True)
    bounds = torch.searchsorted(
        torch.where(whole, first, -1)[ordered], torch.arange(parts + 1, device=there.device)
    )
    shares = None if counts is None else _proportional(least[cut], counts)
    for i, (start, stop) in enumerate(pairwise(bounds.tolist())):
        rows = ordered[start:stop]
        needed = least[rows]
        if counts is not None and shares is not None:
            some = counts[:, i] > 0
            rows = torch.cat([rows, cut[some]])
            needed = torch.cat([needed, shares[some, i]])
        if len(rows):
            found[i] = rows, needed
    return found


def _proportional(totals: Tensor, counts: Tensor) -> Tensor:
    """Whole numbers (g, parts) that sum to `totals` (g,), proportional to counts (g, parts)."""
    whole = counts.sum(1, keepdim=True)
    ideal = totals.unsqueeze(1) * counts
    shares = ideal // whole
    rank = (ideal % whole).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return shares + (rank < (totals - shares.sum(1)).unsqueeze(1))
