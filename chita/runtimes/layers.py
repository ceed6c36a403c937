"""Layers of a network by themselves, with what they are called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.models.targets import decide
from chita.runtimes.inputs import Inputs, inputs_of, reference
from chita.runtimes.measured import Layer

_ALONE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@final
@dataclass(frozen=True, kw_only=True)
class Alone:
    """A layer of two networks: its `name`, both modules, and `inputs` of the pruned one."""

    name: str
    dense: nn.Module
    pruned: nn.Module
    inputs: Inputs

    @property
    def told(self) -> Layer:
        """What it is."""
        weight: Any = self.pruned.weight
        zeros = 100 * float((weight == 0).double().mean())
        return Layer(name=self.name, shape=tuple(weight.shape), zeros=zeros)


def layers_of(dense: nn.Module, pruned: nn.Module, inputs: Inputs) -> tuple[Alone, ...]:
    """Return the linear layers and convolutions whose weights are pruned by default.

    Those alone are returned that run, and are called with one tensor.
    """
    prunable = {d.role.name.rpartition(".")[0] for d in decide(pruned) if d.pruned}
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in pruned.named_modules():
        if name in prunable and type(module) in _ALONE:

            def note(_layer: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                if len(given) == 1:
                    seen.setdefault(name, given[0].detach().clone())

            handles.append(module.register_forward_pre_hook(note))
    try:
        reference(pruned, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(
        Alone(
            name=name,
            dense=dense.get_submodule(name),
            pruned=pruned.get_submodule(name),
            inputs=inputs_of(given),
        )
        for name, given in seen.items()
        if isinstance(given, torch.Tensor) and given.ndim > 1
    )
