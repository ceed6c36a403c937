"""Optimal brain compression: every output by itself, one weight after another, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint, KeepKInGroups
from chita.linalg.cholesky import cholesky
from chita.machine import at_once
from chita.problem import Curvature, InputGram, LocalQuadratic
from chita.solvers.solver import Effort, Found, Solver

_ENTRIES = 2**23  # of the inverses that are downdated at a time: 64 MB
_LAZY = 128  # removals between two downdates of the whole inverse
_NUDGE = 1e-12  # by which scores of one output rise at least, so that they have an order


@final
class OBC(Solver):
    """Remove of each output, again and again, the weight whose removal then costs least.

    With H_λ = G + λI on the weights left, removing q costs ½ w_q²/[H_λ⁻¹]_qq and the rest moves
    by -w_q/[H_λ⁻¹]_qq [H_λ⁻¹]_:q, after which w is again the minimum on what is left. The cost of
    every removal is the score of that weight, or the largest cost before it in its output, so that
    a mask takes removals in their order; then the constraint selects over all outputs. The weights
    are the minimum on the mask, which is where these steps lead.

    Frantar & Alistarh, Optimal brain compression (2022), algorithms 1 and 2 and the global step of
    section 4; their damping is our λ. For N:M a weight may go while its group has more than N.
    Departures: the inverse is downdated for 128 removals at a time, columns asked for in between
    are made on demand, and weights that are gone leave it. Whole blocks are chosen by these scores,
    not eliminated as blocks.

    >>> from chita.constraints import KeepK
    >>> x = InputGram(torch.ones(1, 2, 2), outputs=1)  # two inputs, always equal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=x, ridge=1.0, shift=x.constant(0.0)
    ... )
    >>> OBC().solve(q, KeepK(size=2, k=1)).weights  # (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (InputGram,)

    effort: ClassVar[Effort] = Effort(streams=100, systems=100)
    """An elimination for each output."""

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        mask = constraint.select(removals(problem, constraint).sqrt())
        minimum = problem.minimise_on(mask.nonzero().squeeze(1))
        return Found.at(minimum, mask)


def removals(problem: LocalQuadratic, constraint: Constraint | None = None) -> Tensor:
    """Return what the removal of each weight costs (p,), rising in each output as they are removed.

    Infinite for those that stay because of a constraint on groups within outputs; any other
    constraint changes nothing.

    Raises `InputError` for a problem of a part of a layer, `NumericalError` where H_λ is singular.
    """
    curvature = InputGram.of_whole_layer(problem.curvature)
    inputs, outputs = curvature.inputs, curvature.outputs
    weights = problem.unpruned.double().view(-1, inputs)
    rooms = _rooms(constraint, inputs, weights.device)
    scores = torch.empty_like(weights)
    entries = at_once(_ENTRIES, weights.device)
    inverses = torch.cholesky_inverse(cholesky(curvature.damped(problem.ridge)))
    for group, inverse in enumerate(inverses):
        own = torch.arange(group * outputs, (group + 1) * outputs, device=weights.device)
        for rows in own.split(max(1, entries // inputs**2)):
            scores[rows] = eliminated(weights[rows], inverse, rooms and rooms.of(rows))
    return scores.flatten()


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """Numbers of weights that may go from groups, each of which lies within one output.

    Fields: `group` (outputs, d), that of every weight; `left` (groups,).
    """

    group: Tensor
    left: Tensor

    def of(self, rows: Tensor) -> Rooms:
        """Return the groups of some outputs."""
        return Rooms(group=self.group[rows], left=self.left.clone())

    def open(self, index: Tensor) -> Tensor:
        """Return which of the weights named by index (b, m) in each output may go."""
        return self.left[self.group.gather(1, index)] > 0

    def take(self, index: Tensor, count: Tensor) -> None:
        """Count one weight (b,) of each output as gone, or `count` (b,) of it."""
        self.left.index_add_(0, self.group.gather(1, index.unsqueeze(1)).squeeze(1), -count.long())


def _rooms(constraint: Constraint | None, inputs: int, device: torch.device) -> Rooms | None:
    """Return a constraint's groups, if they lie within outputs and say how many are kept."""
    if not isinstance(constraint, KeepKInGroups):
        return None
    group = constraint.group_of(device).view(-1, inputs)
    output = torch.arange(len(group), device=device).unsqueeze(1).expand_as(group)
    least = torch.cat(constraint.least).to(device)
    left = group.flatten().bincount(minlength=len(least)) - least
    # Each group is given the output of one member, and lies within it if all members agree.
    within = torch.empty_like(left).index_put_((group,), output)[group].equal(output)
    # Only where the groups' least is all that is kept do groups by themselves say what may go.
    says = int(left.sum()) == constraint.size - constraint.k
    return Rooms(group=group, left=left) if within and says else None


def eliminated(weights: Tensor, inverse: Tensor, rooms: Rooms | None = None) -> Tensor:
    """Return the scores (b, d) of the weights (b, d) of some outputs.

    Args:
        weights: the minimum of Q with all of them kept, float64.
        inverse: (G + λI)⁻¹, (d, d) in float64.
        rooms: what may go; all where None. It is used up.

    Returns:
        What the removal of each costs, rising in the order of removal; infinite for what stays.
    """
    count, inputs = weights.shape
    scores = torch.full_like(weights, torch.inf)
    here = torch.arange(inputs, device=weights.device).expand(count, -1)
    left = _Left(here=here, weights=weights, inverses=inverse.expand(count, -1, -1))
    last = weights.new_zeros(count)
    while left.here.shape[1]:
        for _ in range(min(_LAZY, left.here.shape[1])):
            # One removal in every output at a time: outputs do not depend on each other.
            cost, at = left.cheapest(rooms)
            goes = cost < torch.inf
            if not bool(goes.any()):
                return scores
            # A score is at least the one before it, so that a threshold takes removals in order.
            last = torch.where(goes, torch.maximum(last * (1 + _NUDGE), cost), last)
            gone = left.here.gather(1, at)
            scores.scatter_(1, gone, torch.where(goes, last, torch.inf).unsqueeze(1))
            left.remove(at, goes)
            if rooms is not None:
                rooms.take(gone.squeeze(1), goes)
        left = left.compacted()
    return scores


class _Left:
    """The weights left of some outputs, m of each.

    Fields: `here` (b, m), which they are; `weights` (b, m), the minimum on them; `inverses`
    (b, m, m), of H_λ before the removals since, whose fragments u (b, t, m) are still to be taken
    off: Σ u uᵀ.
    """

    def __init__(self, *, here: Tensor, weights: Tensor, inverses: Tensor) -> None:
        self.here, self.weights, self._inverses = here, weights, inverses
        self._diagonals = inverses.diagonal(dim1=1, dim2=2).clone()
        self._alive = torch.ones_like(here, dtype=torch.bool)
        self._fragments = weights.new_empty(len(weights), _LAZY, weights.shape[1])
        self._count = 0

    def cheapest(self, rooms: Rooms | None) -> tuple[Tensor, Tensor]:
        """Return each output's next removal: its cost (b,), infinite for none, and which (b, 1)."""
        # ½ w_q²/[H_λ⁻¹]_qq, with the diagonal kept up to date for all weights
        costs = 0.5 * self.weights.square() / self._diagonals
        able = self._alive if rooms is None else self._alive & rooms.open(self.here)
        cost, place = costs.masked_fill(~able, torch.inf).min(1)
        return cost, place.unsqueeze(1)

    def remove(self, at: Tensor, goes: Tensor) -> None:
        """Remove the weights at places (b, 1) of those outputs of which one goes (b,)."""
        # Column q of the present inverse: that of the stored one less Σ u u_q over the removals
        # since, so the whole matrix need not be touched for each.
        outputs = torch.arange(len(at), device=at.device)
        column = self._inverses[outputs, at.squeeze(1)]
        if self._count:
            known = self._fragments[:, : self._count]
            column -= (known[outputs, :, at.squeeze(1)].unsqueeze(1) @ known).squeeze(1)
        pivot = column.gather(1, at)
        column = torch.where(goes.unsqueeze(1), column, 0)
        # w ← w - w_q/[H⁻¹]_qq H⁻¹_:q is the minimum on what is left, w_q = 0 there.
        self.weights = self.weights - self.weights.gather(1, at) / pivot * column
        # H⁻¹ without q is H⁻¹ - H⁻¹_:q H⁻¹_q:/[H⁻¹]_qq: a downdate by u uᵀ.
        fragment = column / pivot.sqrt()
        self._fragments[:, self._count] = fragment
        self._count += 1
        self._diagonals = self._diagonals - fragment.square()
        self._alive = self._alive.scatter(1, at, ~goes.unsqueeze(1))

    def compacted(self) -> _Left:
        """Return the same without what is gone.

        Outputs of which nothing more goes lose any weights: what stays there has its score.
        """
        size = self.here.shape[1] - self._count
        # Every output loses as many, so that their inverses stay one batch; a stable sort and then
        # one of the places keep the order of the weights.
        stays = self._alive.long().argsort(dim=1, descending=True, stable=True)[:, :size]
        stays = stays.sort(1).values
        inverses = torch.stack([
            inverse[index][:, index] for inverse, index in zip(self._inverses, stays, strict=True)
        ])
        known = self._fragments[:, : self._count]
        fragments = known.gather(2, stays.unsqueeze(1).expand(-1, self._count, -1))
        return _Left(
            here=self.here.gather(1, stays),
            weights=self.weights.gather(1, stays),
            inverses=inverses.baddbmm_(fragments.mT, fragments, alpha=-1),
        )
