"""A number of weights to keep, and at least some in every one of many small groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Constraint, Divisible, check_floors, dealt, places
from chita.layout import WeightIndex, as_index
from chita.linalg.select import check_ranked, filled

_SMALL = 8  # members of a group


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class KeepKInGroups(Divisible):
    """The masks that keep exactly k of p weights, at least `least` in every group.

    Every weight is in one group. Groups of similar size lie together: `members[i]` (g, m) holds
    flat indices, ascending in every row, with -1 for what a smaller group lacks, and `least[i]`
    (g,) what each row keeps at least. If those add up to k, they are kept exactly.

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
        floors = sum(int(least.sum()) for least in self.least)
        check_floors(self.size, self.k, floors, f"{sum(map(len, self.least))} groups")

    def select(self, values: Tensor) -> Tensor:
        """Return the largest of every group, and the largest of the rest."""
        check_ranked(values)
        sizes = values.abs()
        if self._neighbours:  # a view in place of a gather and a scatter of all weights
            (members,), (least,) = self.members, self.least
            forced = _first(sizes.view(members.shape), least.to(values.device)).flatten()
        else:
            forced = torch.zeros_like(values, dtype=torch.bool)
            for members, least in self._on(values.device):
                # What a group lacks is below any magnitude, and so comes last.
                present = torch.where(members >= 0, sizes[members.clamp_min(0)], -1)
                forced[members[_first(present, least)]] = True
        # As in `KeepK`: the largest of each group are in a best mask, the rest are then free.
        return filled(forced, sizes, self.k)

    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask keeps exactly k, and enough in every group."""
        if len(mask) != self.size or int(mask.sum()) != self.k:
            return False
        groups = zip(self._kept(mask), self._on(mask.device), strict=True)
        return all(bool((kept >= least).all()) for kept, (_, least) in groups)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return those within a group, and out of a group that has more than it needs."""
        group = self.group_of(mask.device)
        spare = torch.cat(self._kept(mask)) > torch.cat(self.least).to(mask.device)
        return spare[group[out]].unsqueeze(1) | (group[out].unsqueeze(1) == group[enter])

    def group_of(self, device: torch.device) -> Tensor:
        """Return the number of each weight's group, (p,); groups of each size follow each other."""
        group = torch.empty(self.size, dtype=torch.long, device=device)
        sizes = list(map(len, self.members))
        numbers = torch.arange(sum(sizes), device=device).split(sizes)
        for (members, _), own in zip(self._on(device), numbers, strict=True):
            present = members >= 0
            group[members[present]] = own.unsqueeze(1).expand_as(present)[present]
        return group

    def restrict(self, index: Tensor, kept: Tensor) -> KeepKInGroups:
        """Return what k and the groups still ask of the named weights, at most all of a group."""
        place, outside = places(self.size, index, kept)
        members, least = [], []
        for (old, needed), used in zip(self._on(index.device), self._kept(outside), strict=True):
            new = torch.where(old >= 0, place[old.clamp_min(0)], -1)
            present = (new >= 0).sum(1)
            some = present > 0
            members.append(new[some])
            least.append((needed - used).clamp_min(0).minimum(present)[some])
        k = min(len(index), self.k - len(kept))
        return KeepKInGroups(size=len(index), k=k, members=tuple(members), least=tuple(least))

    def split(self, parts: Sequence[WeightIndex]) -> list[Constraint]:
        """Give every part the same share of k, and of a group's floor what it has of it."""
        indices = list(map(as_index, parts))
        owner, place = dealt(self.size, indices)
        members: list[list[Tensor]] = [[] for _ in indices]
        least: list[list[Tensor]] = [[] for _ in indices]
        for own, needed in self._on(place.device):
            there = torch.where(own >= 0, owner[own.clamp_min(0)], -1)
            for i, rows, share in _shared(there, needed, len(indices)):
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
        count = torch.arange(self.size, dtype=flat.dtype, device=flat.device)
        return torch.equal(flat, count)

    def _on(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield members and floors of groups of each size, on a device."""
        for members, least in zip(self.members, self.least, strict=True):
            yield members.to(device), least.to(device)

    def _kept(self, mask: Tensor) -> list[Tensor]:
        """Return the number of weights that a mask keeps of every group."""
        return [
            (mask[members.clamp_min(0)] & (members >= 0)).sum(1)
            for members, _ in self._on(mask.device)
        ]


def _first(values: Tensor, least: Tensor) -> Tensor:
    """Return a mask of the `least` (g,) largest of each row of values (g, m); ties: the first."""
    count = values.shape[1]
    if count > _SMALL:
        order = values.argsort(dim=1, descending=True, stable=True)
        # The rank of an entry is its position in the sorted row: the inverse permutation.
        positions = torch.arange(count, device=order.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, positions)
        return rank < least.unsqueeze(1)
    # To compare all pairs is faster than to sort so few. The rank of an entry is the number of
    # those before it in the row that are as large, and of those after it that are larger. Entry i
    # starts with all m - 1 - i after it; those that are not larger are taken off: they rank after.
    columns = values.T.contiguous()
    after = torch.arange(count - 1, -1, -1, dtype=torch.uint8, device=values.device)
    rank = after.unsqueeze(1).repeat(1, len(values))
    for i in range(count - 1):
        first = (columns[i] >= columns[i + 1 :]).view(torch.uint8)
        rank[i + 1 :] += first
        rank[i] -= first.sum(0, dtype=torch.uint8)
    ranks = rank.T
    return ranks < least.unsqueeze(1)


def _shared(there: Tensor, least: Tensor, parts: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each part with the groups it has members of, and what it keeps of each at least.

    `there` (g, m) is the part of every member, -1 for none; `least` (g,), what a group keeps.
    """
    first = there.amax(1)
    apart = ((there != first.unsqueeze(1)) & (there >= 0)).any(1)
    # Groups that lie in one part are sorted by it once: there may be millions, and many parts.
    whole = (~apart & (first >= 0)).nonzero().squeeze(1)
    by_part = whole[first[whole].argsort(stable=True)]
    found = by_part.split(first[whole].bincount(minlength=parts).tolist())
    # Groups in several parts, as rows cut by blocks of inputs, owe each part a proportional share.
    cut = apart.nonzero().squeeze(1)
    counts = torch.stack([(there[cut] == i).sum(1) for i in range(parts)], 1)
    shares = _proportional(least[cut], counts)
    for i, own in enumerate(found):
        some = counts[:, i] > 0
        rows = torch.cat([own, cut[some]])
        if len(rows):
            yield i, rows, torch.cat([least[own], shares[some, i]])


def _proportional(totals: Tensor, counts: Tensor) -> Tensor:
    """Return whole numbers (g, parts) that sum to `totals` (g,), proportional to counts (g, parts).

    The largest remainders are rounded up, the first among equals: `apportion` for many at once.
    """
    whole = counts.sum(1, keepdim=True)
    ideal = totals.unsqueeze(1) * counts  # times `whole`, so that all is in integers
    shares = ideal // whole
    rank = (ideal % whole).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return shares + (rank < (totals - shares.sum(1)).unsqueeze(1))
