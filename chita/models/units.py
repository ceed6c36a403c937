"""The parts of a network that are pruned one after another: its blocks, or else its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn


@final
@dataclass(frozen=True, kw_only=True)
class Unit:
    """A module that is called as one: its `name`, and the weights (`tensors`) in it."""

    name: str
    tensors: tuple[str, ...]


def units_of(model: nn.Module, tensors: Sequence[str]) -> tuple[Unit, ...]:
    """Return the units that hold the named weights, in module order.

    A unit is an entry of the outermost `nn.ModuleList` around a weight, as a transformer's blocks
    are, or else the module that owns the weight. Where one holds another, they are one.

    >>> model = nn.ModuleDict({"in": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.Linear(2, 2)])})
    >>> [unit.name for unit in units_of(model, ["in.weight", "blocks.0.weight"])]
    ['in', 'blocks.0']
    """
    found: dict[str, list[str]] = {}
    for tensor in tensors:
        found.setdefault(_unit(model, tensor.rpartition(".")[0]), []).append(tensor)
    outer = [name for name in found if not any(_inside(name, other) for other in found)]
    return tuple(
        Unit(
            name=name,
            tensors=tuple(
                tensor
                for other, own in found.items()
                if other == name or _inside(other, name)
                for tensor in own
            ),
        )
        for name in outer
    )


def _unit(model: nn.Module, owner: str) -> str:
    path = owner.split(".") if owner else []
    for depth in range(1, len(path)):
        if isinstance(model.get_submodule(".".join(path[:depth])), nn.ModuleList):
            return ".".join(path[: depth + 1])
    return owner


def _inside(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))
