"""The blocks of a network, which are pruned one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn


@final
@dataclass(frozen=True, kw_only=True)
class NetworkBlock:
    """A module that is called as a whole: its `name`, and the weights (`tensors`) in it."""

    name: str
    tensors: tuple[str, ...]


def network_blocks(model: nn.Module, tensors: Sequence[str]) -> tuple[NetworkBlock, ...]:
    """Return the blocks that hold the named weights, in module order.

    A block is an entry of the outermost `nn.ModuleList` around a weight, as a transformer's blocks
    are, or else the module that owns the weight. Where one holds another, they are one.

    >>> model = nn.ModuleDict({"in": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.Linear(2, 2)])})
    >>> [block.name for block in network_blocks(model, ["in.weight", "blocks.0.weight"])]
    ['in', 'blocks.0']
    """
    owners = {tensor: _block(model, tensor.rpartition(".")[0]) for tensor in tensors}
    blocks: dict[str, list[str]] = {}
    for tensor, own in owners.items():
        around = (
            name for name in owners.values() if name in ("", own) or own.startswith(f"{name}.")
        )
        blocks.setdefault(min(around, key=len), []).append(tensor)
    return tuple(NetworkBlock(name=name, tensors=tuple(own)) for name, own in blocks.items())


def holders(model: nn.Module, tensor: str) -> tuple[str, ...]:
    """Return the names of all modules that hold a parameter themselves.

    >>> model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    >>> model["b"].weight = model["a"].weight
    >>> holders(model, "a.weight")
    ('a', 'b')
    """
    parameter = model.get_parameter(tensor)
    return tuple(
        name
        for name, module in model.named_modules()
        if any(own is parameter for own in module._parameters.values())
    )


def _block(model: nn.Module, owner: str) -> str:
    path = owner.split(".") if owner else []
    for depth in range(1, len(path)):
        if isinstance(model.get_submodule(".".join(path[:depth])), nn.ModuleList):
            return ".".join(path[: depth + 1])
    return owner
