"""Levels of sparsity by tensor, chosen from a table of losses under one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

import numpy as np

from chita.constraints.allocated import Allocated, Total
from chita.constraints.constraint import Budget, Constraint
from chita.constraints.floors import KeepKWithFloors
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
"""From tensors to pairs: a share removed, and by how much the loss grows with this tensor alone
pruned so far."""


@final
@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most `most` of something, named by `of`; `each`, what a weight of every tensor takes."""

    most: int
    of: str
    each: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Searched(Budget):
    """Of every tensor, remove the share at which the losses of all sum to the least.

    The shares are those that `levels` lists; they keep at most what `total` keeps, with its
    `min_keep` in every tensor, and the rest of that goes to the largest weights. The loss of
    several tensors is taken for the sum of theirs (Frantar and Alistarh, OBC (2022), section 5;
    SPDY (2022)), and the best of all combinations is found (`allocate`).

    Raises `InputError` on binding where no combination fits.

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
        """The levels, or that they are measured, and the words of the whole."""
        if self.levels is None:
            return {"per_layer": SEARCHED, **self.total.words}
        levels = {name: [*map(list, pairs)] for name, pairs in self.levels.items()}
        return {"per_layer": levels, **self.total.words}

    @property
    def counts_operations(self) -> bool:
        """As the whole."""
        return self.total.counts_operations

    def kept(self, layout: Layout) -> int:
        """Return what the whole keeps."""
        return self.total.kept(layout)

    def removed(self, layout: Layout) -> float:
        """Return what the whole removes."""
        return self.total.removed(layout)

    def on_the_way(self, removed: float, layout: Layout) -> Budget:
        """The whole and every tensor on their way."""
        return self.settled(layout).on_the_way(removed, layout)

    def bind(self, layout: Layout) -> Constraint:
        """Both the whole and the levels that are best."""
        return self.settled(layout).bind(layout)

    def settled(self, layout: Layout) -> Budget:
        """Return the budget with the levels chosen."""
        if self.levels is None:
            return self.total
        levels = of_tensors(self.levels, layout)
        kept = [
            [max(share_kept(s, count), min(self.total.min_keep, count)) for s, _ in levels[name]]
            for name, count in zip(layout.names, layout.counts, strict=True)
        ]
        losses = [[loss for _, loss in levels[name]] for name in layout.names]
        limits = _limits(self.total.bind(layout), len(layout.names))
        costs = [[[k * limit.each[t] for k in ks] for t, ks in enumerate(kept)] for limit in limits]
        chosen = allocate(losses, costs, limits)
        quotas = tuple(ks[at] for ks, at in zip(kept, chosen, strict=True))
        return Allocated(total=self.total, quotas=quotas)


def _pairs(name: str, listed: object) -> tuple[tuple[float, float], ...]:
    """The levels of a tensor as numbers. Raises `InputError` on anything else."""
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


def _limits(constraint: KeepK | KeepKWithFloors | UnderFlops, tensors: int) -> list[Limit]:
    weights = Limit(most=constraint.k, of="weights", each=(1,) * tensors)
    if not isinstance(constraint, UnderFlops):
        return [weights]
    of = "multiply-adds of what is pruned"
    return [weights, Limit(most=constraint.limit, of=of, each=constraint.costs)]


def allocate(
    losses: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[int]]],
    limits: Sequence[Limit],
) -> tuple[int, ...]:
    """Return the level of every tensor at which the losses sum to the least within all limits.

    A multiple-choice knapsack, as an integer programme by HiGHS, whose answer is checked in whole
    numbers.

    Args:
        losses: [t][l], of tensor t at level l.
        costs: [b][t][l], what that takes of limit b; whole numbers, at least 0.
        limits: [b].

    Raises:
        InputError: no levels are within the limits.

    >>> few = Limit(most=5, of="weights")
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

    bounds = np.cumsum([0, *map(len, losses)])
    value = np.concatenate([np.asarray(levels, float) for levels in losses])
    value = (value - value.min()) * (_SCALE / (np.ptp(value) or 1.0))
    count = bounds[-1]
    one = LinearConstraint(csr_array((np.ones(count), np.arange(count), bounds)), 1, 1)
    used = np.array([np.concatenate(table) for table in costs], float)
    used /= np.array([max(limit.most, 1) for limit in limits], float)[:, None]
    for slack in (0.0, *(_TOLERANCE * 10**i for i in range(3))):
        within = LinearConstraint(used, -np.inf, 1 - slack)
        found = milp(
            value,
            integrality=np.ones(len(value)),
            bounds=Bounds(0, 1),
            constraints=[one, within],
            options={"mip_rel_gap": 0.0},
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
