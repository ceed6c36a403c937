"""A number of weights for every tensor by itself: of equal shares, by its shape, or as listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar, final

from chita.constraints.apportion import apportion
from chita.constraints.constraint import Budget
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.sparsity import check_floor, check_share, share_kept
from chita.errors import InputError
from chita.layout import Layout
from chita.naming import nearest

T = TypeVar("T")


@final
@dataclass(frozen=True, kw_only=True)
class PerLayer(Budget):
    """Remove the share `sparsity` over the network, every tensor its part of it.

    Fields:
        sparsity: floor((1 - sparsity) p) weights are kept in all.
        distribution: "uniform", the same share of every tensor; or "erk", densities proportional
            to the sum of a tensor's dimensions over their product, none above 1 (Erdős-Rényi
            kernel: Evci et al., RigL (2020), section 3).
        min_keep: kept in every tensor at least, or all of a smaller one.

    Shares that are no whole number of weights are rounded down, and the weights that are left go
    to the largest remainders, the first tensor among equals, so that the sum is exact.

    Raises `InputError` on what cannot be used.
    """

    sparsity: float
    distribution: str = "uniform"
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_share(self.sparsity)
        check_floor(self.min_keep)
        if self.distribution not in DISTRIBUTIONS:
            raise InputError(
                f"Unknown distribution over layers {self.distribution!r}. "
                f"{nearest(str(self.distribution), DISTRIBUTIONS)}"
            )

    def kept(self, layout: Layout) -> int:
        """Return k."""
        return share_kept(self.sparsity, layout.size)

    def on_the_way(self, removed: float, layout: Layout) -> PerLayer:
        """A smaller share, distributed in the same way."""
        return PerLayer(sparsity=removed, distribution=self.distribution, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepKWithFloors:
        """Keep that many in every tensor."""
        floors = [min(self.min_keep, count) for count in layout.counts]
        quotas = apportion(
            self.kept(layout), DISTRIBUTIONS[self.distribution](layout), layout.counts, floors
        )
        return exactly(layout, quotas)


@final
@dataclass(frozen=True, kw_only=True)
class Quotas(Budget):
    """Remove from every tensor the share that `levels` gives it.

    Fields: `levels`, from tensors to shares removed, by name, by the name of the module, or by a
    glob; of several that match, the last one counts. `min_keep` as in `Sparsity`.

    Raises `InputError` on what is no share, and on binding where a tensor has none or a name
    matches nothing.
    """

    levels: Mapping[str, float]
    min_keep: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_keep)
        for name, level in self.levels.items():
            try:
                check_share(level)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None

    def kept(self, layout: Layout) -> int:
        """Return the sum over tensors."""
        return sum(self._quotas(layout))

    def on_the_way(self, removed: float, layout: Layout) -> Quotas:
        """Every tensor as far on its way as the whole network."""
        final = self.removed(layout)
        part = min(1.0, removed / final) if final else 0.0
        levels = {name: level * part for name, level in of_tensors(self.levels, layout).items()}
        return Quotas(levels=levels, min_keep=self.min_keep)

    def bind(self, layout: Layout) -> KeepKWithFloors:
        """Keep that many in every tensor."""
        return exactly(layout, self._quotas(layout))

    def _quotas(self, layout: Layout) -> list[int]:
        levels = of_tensors(self.levels, layout)
        return [
            max(share_kept(levels[name], count), min(self.min_keep, count))
            for name, count in zip(layout.names, layout.counts, strict=True)
        ]


def of_tensors(rules: Mapping[str, T], layout: Layout) -> dict[str, T]:
    """Return what rules give each tensor, by its name, that of its module, or a glob.

    Of several rules that match, the last one counts. Raises `InputError` where a tensor has none or
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
            "layers out with --ignore."
        )
    return found


def _matches(rule: str, name: str) -> bool:
    owner = name.rpartition(".")[0]
    return rule in (name, owner) or fnmatchcase(name, rule) or fnmatchcase(owner, rule)


def _uniform(layout: Layout) -> list[int]:
    return list(layout.counts)


def _erk(layout: Layout) -> list[int]:
    return [sum(shape) for shape in layout.shapes]


DISTRIBUTIONS: dict[str, Callable[[Layout], Sequence[int]]] = {"uniform": _uniform, "erk": _erk}
"""From a layout to what the numbers of weights kept are proportional to."""


def exactly(layout: Layout, quotas: Sequence[int]) -> KeepKWithFloors:
    """Return the constraint to quotas[t] weights of tensor t.

    Raises `InputError` when they keep nothing.
    """
    if not any(quotas):
        raise InputError("These levels keep no weight at all; at least one must be kept.")
    return KeepKWithFloors(
        size=layout.size, k=sum(quotas), segments=layout.segments, least=tuple(quotas)
    )
