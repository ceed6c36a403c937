"""A number of weights for every tensor by itself: of equal shares, by its shape, or as listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar, final

from chita.budget_options import BudgetOptions
from chita.constraints.apportion import apportion
from chita.constraints.constraint import Budget
from chita.constraints.keep_k import KeepK
from chita.constraints.sparsity import ShareBudget, check_share, share_kept
from chita.errors import InputError
from chita.layout import Layout
from chita.naming import plain_name
from chita.options import option, shared

T = TypeVar("T")


DISTRIBUTIONS: dict[str, Callable[[Layout], Sequence[int]]] = {
    "uniform": lambda layout: layout.counts,
    # A density proportional to Σ dimensions / Π dimensions, times Π dimensions weights.
    "erk": lambda layout: [sum(shape) for shape in layout.shapes],
}
"""From a layout to what the numbers of weights kept are proportional to."""


@final
class PerLayer(ShareBudget, kw_only=False):
    """A share to remove over the network, of every tensor a part that is fixed beforehand.

    floor((1 - sparsity) p) weights are kept in all. The densities of "erk" are proportional to the
    sum of a tensor's dimensions over their product, none above 1 (Erdős-Rényi kernel: Evci et al.,
    RigL (2020), section 3).

    Shares that are no whole number of weights are rounded down, and the weights that remain go to
    the largest remainders, the first tensor among equals, so that the sum is exact.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("a", "b"), shapes=((100, 100), (10, 20)), axes=(Axes(), Axes()))
    >>> PerLayer(0.9).bind(layout).least
    (1000, 20)
    >>> PerLayer(0.9, distribution="erk").bind(layout).least  # 1,020 shared as 200 : 30
    (887, 133)
    """

    _: KW_ONLY
    distribution: str = option(
        "uniform",
        "uniform removes the same share of every tensor; erk removes less of smaller ones.",
        choices=tuple(DISTRIBUTIONS),
    )
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """The distribution, the share and the floors."""
        share = {"sparsity": self.sparsity, "min_keep": self.min_keep}
        return {"per_layer": self.distribution, **share}

    def bind(self, layout: Layout) -> KeepK:
        """Keep that many in every tensor."""
        shares = DISTRIBUTIONS[self.distribution](layout)
        floors = layout.floors(self.min_keep)
        return exactly(layout, apportion(self.kept(layout), shares, layout.counts, floors))


@final
class Quotas(Budget, kw_only=False):
    """A share to remove of every tensor, as `levels` gives it.

    Raises `InputError` on binding if a tensor has no level, or a name matches nothing.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("a.weight", "b.weight"), shapes=((8,), (8,)), axes=(Axes(), Axes()))
    >>> Quotas({"*": 0.5, "b": 0.75}).bind(layout).least
    (4, 2)
    """

    levels: Mapping[str, float] = option(
        help="Shares to remove by the name of a tensor, that of its module, or a glob; the last "
        "that matches counts."
    )
    _: KW_ONLY
    min_keep: int = shared(BudgetOptions, "min_keep")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.levels, Mapping):
            raise InputError(
                f"`levels` is {self.levels!r}; give a dict of shares to remove by tensor."
            )
        levels = {name: check_share(level, name) for name, level in self.levels.items()}
        object.__setattr__(self, "levels", levels)

    @property
    def words(self) -> dict[str, Any]:
        """The levels and the floors."""
        return {"per_layer": dict(self.levels), "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return the sum over tensors."""
        return sum(self._quotas(layout))

    def on_the_way(self, removed: float, layout: Layout) -> Quotas:
        """Return the budget in which every tensor has gone the same part of its way."""
        part = self.reached(removed, layout)
        levels = {name: level * part for name, level in of_tensors(self.levels, layout).items()}
        return replace(self, levels=levels)

    def bind(self, layout: Layout) -> KeepK:
        """Keep that many in every tensor."""
        return exactly(layout, self._quotas(layout))

    def _quotas(self, layout: Layout) -> list[int]:
        levels = of_tensors(self.levels, layout)
        tensors = zip(layout.names, layout.counts, layout.floors(self.min_keep), strict=True)
        return [max(share_kept(levels[name], count), floor) for name, count, floor in tensors]


def of_tensors(rules: Mapping[str, T], layout: Layout) -> dict[str, T]:
    """Return what rules give each tensor, by its name, that of its module, or a glob.

    Of several rules that match, the last one counts. Raises `InputError` if a tensor has no rule or
    a rule matches nothing.
    """
    found: dict[str, T] = {}
    idle = []
    for rule, value in rules.items():
        matched = [name for name in layout.names if _matches(rule, name)]
        found.update(dict.fromkeys(matched, value))
        if not matched:
            idle.append(rule)
    missing = [name for name in layout.names if name not in found]
    if idle or missing:
        said = [f"nothing that is pruned is named {', '.join(idle)}"] if idle else []
        said += [f"no level is given for {', '.join(missing)}"] if missing else []
        raise InputError(
            f"The levels do not fit the network: {'; '.join(said)}. Correct them, or leave "
            "layers out with `ignore`."
        )
    return found


def _matches(rule: str, name: str) -> bool:
    """Return whether a rule names a tensor or its module, with the marks of wrappers or without."""
    full = (name, plain_name(name))
    names = (*full, *(each.rpartition(".")[0] for each in full))
    return any(rule == each or fnmatchcase(each, rule) for each in names)


def exactly(layout: Layout, quotas: Sequence[int]) -> KeepK:
    """Return the constraint to quotas[t] weights of tensor t.

    Raises `InputError` when they keep nothing.
    """
    if not any(quotas):
        raise InputError("These levels keep no weight at all; at least one must be kept.")
    # Floors that sum to k are met exactly.
    k, least = sum(quotas), tuple(quotas)
    return KeepK(size=layout.size, k=k, segments=layout.segments, least=least)
