"""Levels of sparsity by tensor, chosen from a table of losses under one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, final

import numpy as np

from chita.constraints.constraint import Budget, Constraint
from chita.constraints.flops import Flops, Weights
from chita.constraints.keep_k import KeepK
from chita.constraints.per_layer import of_tensors
from chita.constraints.sparsity import check_share, share_kept
from chita.constraints.under_flops import UnderFlops
from chita.errors import InputError
from chita.layout import Layout
from chita.options import option

SEARCHED = "search"
"""The word for the budget whose levels are measured."""

_SCALE = 1e3  # of losses, so that the solver's absolute tolerance is far below their differences
_TOLERANCE = 1e-6  # of the solver, by which a limit may be passed

Levels = Mapping[str, Sequence[tuple[float, float]]]
"""From tensors to pairs: a share removed, and by how much the loss grows with only this tensor
pruned so far."""

Total = Weights | Flops
"""What limits all weights together, wherever they are."""


@final
@dataclass(frozen=True, kw_only=True)
class Capacity:
    """A limit `most` of a resource `of`, of which a weight of tensor t takes `each[t]`."""

    most: int
    of: str
    each: tuple[int, ...] = ()


@final
class Searched(Budget, kw_only=False):
    """The levels of sparsity, one for every tensor, at which the losses of all sum to the least.

    The levels are those that `levels` lists; they keep at most what `total` keeps, with its
    `min_keep` in every tensor, and the rest of that goes to the largest weights. The loss of
    several tensors is taken for the sum of theirs (Frantar and Alistarh, OBC (2022), section 5;
    SPDY (2022)), and the best of all combinations is found (`allocate`).

    Raises `InputError` on binding if no combination fits.

    >>> from chita.constraints.sparsity import Nonzeros
    >>> from chita.layout import Axes
    >>> layout = Layout(names=("a", "b"), shapes=((4,), (4,)), axes=(Axes(), Axes()))
    >>> levels = {"a": [(0.0, 0.0), (0.75, 1.0)], "b": [(0.0, 0.0), (0.75, 3.0)]}
    >>> Searched(Nonzeros(5), levels=levels).bind(layout).least
    (1, 4)
    """

    total: Total = option(help="What all weights together are held to.")
    _: KW_ONLY
    levels: Levels | None = option(
        None,
        "Pairs (sparsity, by how much the loss grows) by the name of a tensor, that of its "
        "module, or a glob.",
        unset="measured; until then only the whole is bound",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.total, Total):
            raise InputError(
                f"`total` is {self.total!r}; give a Sparsity, Nonzeros, Megabytes or Flops."
            )
        if self.levels is None:
            return
        if not isinstance(self.levels, Mapping):
            raise InputError(
                f"`levels` is {self.levels!r}; give a dict of lists of (sparsity, loss) by tensor."
            )
        levels = {name: _pairs(name, listed) for name, listed in self.levels.items()}
        object.__setattr__(self, "levels", levels)

    @property
    def words(self) -> dict[str, Any]:
        """The levels, or the word for measured ones, and the words of the whole."""
        if self.levels is None:
            return {"per_layer": SEARCHED, **self.total.words}
        levels = {name: [*map(list, pairs)] for name, pairs in self.levels.items()}
        return {"per_layer": levels, **self.total.words}

    @property
    def counts_operations(self) -> bool:
        """Whether `total` needs a layout with operations."""
        return self.total.counts_operations

    def kept(self, layout: Layout) -> int:
        """Return what `total` keeps."""
        return self.total.kept(layout)

    def removed(self, layout: Layout) -> float:
        """Return what `total` removes."""
        return self.total.removed(layout)

    def on_the_way(self, removed: float, layout: Layout) -> Budget:
        """Return the budget in which the whole and every tensor have gone a part of their way."""
        total = self.total.on_the_way(removed, layout)
        if self.levels is None:
            return total
        part = self.reached(removed, layout)
        tensors = zip(layout.names, layout.counts, self._quotas(self.levels, layout), strict=True)
        levels = {}
        for name, count, quota in tensors:
            kept = max(quota, int(count - part * (count - quota)))
            # The share that removes the rest, less half a weight: rounded down, it keeps `kept`.
            levels[name] = [(max(0.0, 1 - (kept + 0.5) / count), 0.0)]
        return Searched(total, levels=levels)

    def bind(self, layout: Layout) -> Constraint:
        """Keep what `total` keeps, and of every tensor at least what its best level does."""
        bound = self.total.bind(layout)
        if self.levels is None:
            return bound
        quotas = self._quotas(self.levels, layout)
        return replace(bound, least=tuple(map(max, bound.least, quotas)))

    def _quotas(self, rules: Levels, layout: Layout) -> tuple[int, ...]:
        """Return the weights that every tensor keeps at its best level."""
        levels = of_tensors(rules, layout)
        tensors = zip(layout.names, layout.counts, layout.floors(self.total.min_keep), strict=True)
        kept = [
            [max(share_kept(sparsity, count), floor) for sparsity, _ in levels[name]]
            for name, count, floor in tensors
        ]
        losses = [[loss for _, loss in levels[name]] for name in layout.names]
        limits = _capacities(self.total.bind(layout), len(layout.names))
        costs = [[[k * limit.each[t] for k in ks] for t, ks in enumerate(kept)] for limit in limits]
        chosen = allocate(losses, costs, limits)
        return tuple(ks[at] for ks, at in zip(kept, chosen, strict=True))


def _pairs(name: str, listed: object) -> tuple[tuple[float, float], ...]:
    """Return the levels of a tensor as numbers. Raises `InputError` on anything else."""
    try:
        pairs = [(sparsity, float(loss)) for sparsity, loss in listed]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InputError(
            f"{listed!r} are no levels of {name}; give a list of pairs (sparsity, loss)."
        ) from None
    if not pairs:
        raise InputError(f"{name} has no level of sparsity to choose from. List some.")
    for sparsity, loss in pairs:
        if not math.isfinite(loss):
            raise InputError(
                f"{name}: the loss at sparsity {sparsity} is {loss}. Leave that level out."
            )
    return tuple((check_share(sparsity, name), loss) for sparsity, loss in pairs)


def _capacities(constraint: KeepK | UnderFlops, tensors: int) -> list[Capacity]:
    weights = Capacity(most=constraint.k, of="weights", each=(1,) * tensors)
    if not isinstance(constraint, UnderFlops):
        return [weights]
    of = "multiply-adds of what is pruned"
    return [weights, Capacity(most=constraint.limit, of=of, each=constraint.costs)]


def allocate(
    losses: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[int]]],
    limits: Sequence[Capacity],
) -> tuple[int, ...]:
    """Return the level of every tensor at which the losses sum to the least within all limits.

    A multiple-choice knapsack, as an integer programme by HiGHS, whose answer is checked in whole
    numbers: min Σ loss[t][l] x[t, l] over binary x with Σ_l x[t, l] = 1 for every tensor t and
    Σ costs[b][t][l] x[t, l] <= limits[b] for every limit b.

    Args:
        losses: [t][l], of tensor t at level l.
        costs: [b][t][l], what that takes of limit b; whole numbers, at least 0.
        limits: [b].

    Raises:
        InputError: no levels are within the limits.

    >>> few = Capacity(most=5, of="weights")
    >>> allocate([[0.0, 1.0], [0.0, 3.0]], [[[4, 1], [4, 1]]], [few])
    (1, 0)
    """
    for table, limit in zip(costs, limits, strict=True):
        least = sum(map(min, table))
        if least > limit.most:
            raise InputError(
                f"The levels of sparsity keep at least {least:,} {limit.of}, and the budget allows "
                f"{limit.most:,}. List higher levels, or allow {least:,}."
            )
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - half a second
    from scipy.sparse import csr_array  # noqa: PLC0415

    # x is flat: the levels of tensor t are the columns from bounds[t] to bounds[t + 1].
    bounds = np.cumsum([0, *map(len, losses)])
    # A shift changes every sum alike, as each tensor has one level; the scale keeps differences
    # above the solver's absolute tolerance, whatever unit the losses have.
    value = np.concatenate([np.asarray(levels, float) for levels in losses])
    value = (value - value.min()) * (_SCALE / (np.ptp(value) or 1.0))
    count = bounds[-1]
    # Row t of the sparse matrix has ones at the levels of tensor t, and sums to 1.
    one = LinearConstraint(csr_array((np.ones(count), np.arange(count), bounds)), 1, 1)
    # Costs reach 10^12: as shares of their limits, all rows are in the range of the tolerance.
    used = np.array([np.concatenate(table) for table in costs], float)
    used /= np.array([max(limit.most, 1) for limit in limits], float)[:, None]
    # HiGHS may pass a limit by its tolerance. If whole numbers show that it did, the limit is set
    # lower by a little more each time.
    for slack in (0.0, *(_TOLERANCE * 10**i for i in range(3))):
        within = LinearConstraint(used, -np.inf, 1 - slack)
        found = milp(
            value,
            integrality=np.ones(len(value)),
            bounds=Bounds(0, 1),
            constraints=[one, within],
            options={"mip_rel_gap": 0.0},  # the best, not one within the default gap of 0.01 %
        )
        if found.x is None:
            break
        chosen = tuple(int(part.argmax()) for part in np.split(found.x, bounds[1:-1]))
        totals = (sum(row[at] for row, at in zip(t, chosen, strict=True)) for t in costs)
        if all(total <= limit.most for total, limit in zip(totals, limits, strict=True)):
            return chosen
    raise InputError(
        "No combination of the levels of sparsity is within all limits at once. List more or "
        "higher levels, or allow more."
    )
