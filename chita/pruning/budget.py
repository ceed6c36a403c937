"""Budgets from the words in which users give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

from torch import nn

from chita import nested
from chita.collect.cost import with_operations
from chita.constraints import (
    Blocks,
    Budget,
    ByOutliers,
    Flops,
    NofM,
    Nonzeros,
    PerLayer,
    PerRow,
    Quotas,
    Sparsity,
    Stored,
)
from chita.constraints.allocated import Total
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import LossLike, make_loss
from chita.pruning.allocation import Levels, Searched

_ROWS, _SEARCH, _OUTLIERS = "rows", "search", "owl"
_TOTALS = ("sparsity", "nnz", "megabytes")  # what all weights together are held to

PerLayerLike = str | Mapping[str, float | Sequence[tuple[float, float]]]
"""How a budget is shared among tensors: a word, levels, or lists of (level, loss)."""


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """A budget in words, None for what was not said.

    Fields:
        sparsity: share of weights removed, in [0, 1).
        nnz: number of weights kept.
        megabytes: millions of bytes that the weights kept take at most, with a bit for each place.
        min_keep: weights kept in every tensor at least.
        pattern: "2:4", N kept of M.
        blocks: "4x1", outputs x inputs, kept or removed whole.
        per_layer: "uniform", "erk", "rows" (every output the same share), "owl", levels by tensor,
            or "search" and lists of (level, loss) by tensor, of which the best are chosen.
        flops: share of the dense FLOPs that remains at most.
    """

    sparsity: float | None = None
    nnz: int | None = None
    megabytes: float | None = None
    min_keep: int = 1
    pattern: str | None = None
    blocks: str | None = None
    per_layer: PerLayerLike | None = None
    flops: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain data; levels by tensor as a dict."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.per_layer, Mapping):
            found["per_layer"] = {name: _plain(level) for name, level in self.per_layer.items()}
        return found

    @property
    def given(self) -> bool:
        """Whether any budget was said."""
        names = {field.name for field in fields(self)} - {"min_keep"}
        return any(getattr(self, name) is not None for name in names)

    @property
    def searched(self) -> bool:
        """Whether the levels of tensors are chosen by their losses."""
        how = self.per_layer
        if isinstance(how, Mapping):
            return any(isinstance(level, Sequence) for level in how.values())
        return how == _SEARCH


def _plain(level: float | Sequence[tuple[float, float]]) -> float | list[list[float]]:
    if isinstance(level, Sequence):
        return [[float(value) for value in pair] for pair in level]
    return float(level)


def make_budget(asked: Asked) -> Budget:
    """Return the budget that the words make.

    Raises `InputError` on words that contradict each other, none, or a value out of range.
    """
    shapes = {name: getattr(asked, name) for name in ("pattern", "blocks", "per_layer", "flops")}
    said = [name for name, value in shapes.items() if value is not None]
    if asked.searched and set(said) <= {"per_layer", "flops"}:
        return _searched(asked)
    if len(said) > 1:
        raise InputError(
            f"{' and '.join(said)} are budgets of their own and were given together. Give one of "
            "them."
        )
    return _MAKERS[said[0]](asked) if said else _weights(asked)


def _weights(asked: Asked) -> Sparsity | Nonzeros | Stored:
    given = [name for name in _TOTALS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InputError(
            "Give one of sparsity (share removed, such as 0.9), nnz (weights kept) and megabytes "
            f"(what these take); got {' and '.join(given) or 'none'}."
        )
    if asked.sparsity is not None:
        return Sparsity(sparsity=asked.sparsity, min_keep=asked.min_keep)
    if asked.nnz is not None:
        return Nonzeros(nnz=asked.nnz, min_keep=asked.min_keep)
    assert asked.megabytes is not None
    return Stored(megabytes=asked.megabytes, min_keep=asked.min_keep)


def _pattern(asked: Asked) -> Budget:
    _alone("pattern", "the pattern says how many weights are kept", asked)
    return NofM.parse(str(asked.pattern))


def _blocks(asked: Asked) -> Budget:
    sparsity = _share("blocks", asked)
    return Blocks.parse(str(asked.blocks), sparsity, asked.min_keep)


def _per_layer(asked: Asked) -> Budget:
    how = asked.per_layer
    if isinstance(how, Mapping):
        _alone("per_layer", "the levels say how many weights are kept", asked)
        levels = {name: level for name, level in how.items() if not isinstance(level, Sequence)}
        return Quotas(levels=levels, min_keep=asked.min_keep)
    sparsity = _share("per_layer", asked)
    if how == _OUTLIERS:
        return ByOutliers(sparsity=sparsity, min_keep=asked.min_keep)
    if how == _ROWS:
        return PerRow(sparsity=sparsity, min_keep=asked.min_keep)
    return PerLayer(sparsity=sparsity, distribution=str(how), min_keep=asked.min_keep)


def _searched(asked: Asked) -> Budget:
    total: Total = _weights(asked) if asked.flops is None else _flops(asked)
    levels: Levels | None = None
    if isinstance(asked.per_layer, Mapping):
        single = [n for n, level in asked.per_layer.items() if not isinstance(level, Sequence)]
        if single:
            raise InputError(
                f"per_layer gives one level for {', '.join(single)}, and lists of (sparsity, loss) "
                "for others. Give lists for all, or levels for all."
            )
        levels = {
            name: _pairs(name, listed)
            for name, listed in asked.per_layer.items()
            if isinstance(listed, Sequence)
        }
    return Searched(total=total, levels=levels, min_keep=asked.min_keep)


def _pairs(name: str, listed: Sequence[Any]) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((float(sparsity), float(loss)) for sparsity, loss in listed)
    except (TypeError, ValueError):
        raise InputError(
            f"per_layer gives {listed!r} for {name}; give a list of pairs (sparsity, loss)."
        ) from None


def _flops(asked: Asked) -> Flops:
    limited = any(getattr(asked, name) is not None for name in _TOTALS)
    assert asked.flops is not None
    return Flops(
        share=asked.flops,
        weights=_weights(asked) if limited else None,
        min_keep=asked.min_keep,
    )


_MAKERS = {"pattern": _pattern, "blocks": _blocks, "per_layer": _per_layer, "flops": _flops}


def _alone(name: str, why: str, asked: Asked) -> None:
    given = [total for total in _TOTALS if getattr(asked, total) is not None]
    if given:
        raise InputError(
            f"{name} was given with {' and '.join(given)}, but {why}. Leave {given[0]} out."
        )


def _share(name: str, asked: Asked) -> float:
    others = [o for o in _TOTALS if o != "sparsity" and getattr(asked, o) is not None]
    if others or asked.sparsity is None:
        raise InputError(
            f"{name} needs sparsity, the share that is removed, such as 0.8, and takes no "
            f"{' and '.join(others) or 'nnz'}."
        )
    return asked.sparsity


def layout_for(
    budget: Budget,
    layout: Layout,
    model: nn.Module,
    data: Data | None,
    loss: LossLike,
    *,
    recorded: bool = False,
) -> Layout:
    """Return the layout with what its weights cost for one sample, where the budget needs it.

    `recorded` asks for it where the record alone would tell it: of data in memory, since batches
    that come one after another are not begun for that.

    Raises `InputError` as `chita.collect.cost.with_operations` does, where the budget needs it.
    """
    wanted = budget.counts_operations or (recorded and isinstance(data, Indexed))
    if data is None or not wanted:
        return layout
    batch = next(iter(batches_of(data, 1)))
    device = model.get_parameter(layout.names[0]).device
    sample = nested.map_tensors(lambda t: t.to(device), next(Examples(batch).batches(1)))
    needed = budget.counts_operations
    return with_operations(layout, model, make_loss(loss, batch), sample, needed=needed)
