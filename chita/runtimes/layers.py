"""Layers of a network by themselves, each with an input that it was called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from chita.models.forward import hooked
from chita.models.targets import decide
from chita.runtimes.inputs import Inputs, inputs_of, reference
from chita.runtimes.measured import MeasuredLayer

_MEASURED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@final
@dataclass(frozen=True, kw_only=True)
class NetworkPair:
    """A network, or a layer of it, dense and pruned, with the `inputs` of both."""

    name: str
    dense: nn.Module
    pruned: nn.Module
    inputs: Inputs


def layers_of(pair: NetworkPair) -> tuple[NetworkPair, ...]:
    """Return the linear layers and convolutions whose weights are pruned by default.

    Only those are returned that run and are called with one tensor, which the pruned network
    gives them.
    """
    prunable = {d.role.path.rpartition(".")[0] for d in decide(pair.pruned) if d.pruned}
    layers = {
        name: module
        for name, module in pair.pruned.named_modules()
        if name in prunable and type(module) in _MEASURED
    }
    return tuple(
        NetworkPair(
            name=name,
            dense=pair.dense.get_submodule(name),
            pruned=layers[name],
            inputs=inputs_of(given),
        )
        for name, given in first_inputs(pair.pruned, pair.inputs, layers).items()
        if given.ndim > 1
    )


def described(layer: NetworkPair) -> MeasuredLayer:
    """Return the shape and the zeros of a pruned layer's weight."""
    weight: Any = layer.pruned.weight
    zeros = 100 * float((weight == 0).double().mean())
    return MeasuredLayer(name=layer.name, shape=tuple(weight.shape), zeros=zeros)


def first_inputs(
    network: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Return what each layer is first called with while the network runs, in order of execution.

    Layers that do not run, or are called by keyword, are left out.
    """
    seen: dict[str, Tensor] = {}

    def note(name: str, given: tuple[Tensor, ...]) -> None:
        if given:
            seen.setdefault(name, given[0].detach().clone())

    with hooked(
        layer.register_forward_pre_hook(lambda _layer, given, name=name: note(name, given))
        for name, layer in layers.items()
    ):
        reference(network, inputs)
    return seen
