"""One forward and one backward for many rows, and what the layers saw on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.affine import affine_norms
from chita.collect.rules import Rule, rule_of
from chita.losses import OutputLoss
from chita.losses.outputs import split
from chita.models.forward import outputs_of


@final
@dataclass(frozen=True, kw_only=True)
class Place:
    """One place of a weight: an attribute of a module that has a rule."""

    module: nn.Module
    attribute: str
    rule: Rule


@final
@dataclass(frozen=True, kw_only=True)
class Call:
    """One forward of a module: its input, or inputs, and the gradient δ by its output."""

    inputs: Any
    delta: Tensor


@final
class BatchedBackward:
    """Gives, for batches of r·m samples, the calls of the modules that hold given weights.

    The network may write into its inputs, which are copied.

    Args:
        model: the network, in eval mode.
        loss: compared row by row with the outputs of all rows.
        names: the weights; `places` tells where each is used.
        row_size: samples m per row.

    Field: `channels_last`, whether images are laid out so, in which convolutions are faster.
    """

    def __init__(
        self, model: nn.Module, loss: OutputLoss, names: Sequence[str], row_size: int
    ) -> None:
        self._model, self._loss, self._row_size = model, loss, row_size
        self.channels_last = any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
        self.places = {name: found for name in names if (found := _places(model, name))}

    def run(self, batch: Any) -> tuple[dict[nn.Module, list[Call]], Tensor]:
        """The calls of every module concerned, in order, and the losses of the rows (r,)."""
        modules = {place.module for found in self.places.values() for place in found}
        frozen, norms = _frozen(self._model), affine_norms(self._model)
        with torch.enable_grad(), frozen, norms, _watched(modules) as watch:
            inputs, targets = split(batch)
            outputs = outputs_of(self._model, nested.map_tensors(self._copied, inputs))
            losses = self._loss.compare(outputs, targets, self._row_size)
            watch.backward(losses.sum())
        return watch.calls, losses.detach()

    def _copied(self, tensor: Tensor) -> Tensor:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d} if self.channels_last else {}
        return tensor.clone(memory_format=formats.get(tensor.ndim, torch.contiguous_format))

    def gradients(self, name: str, calls: Mapping[nn.Module, list[Call]], rows: int) -> Tensor:
        """The gradients of one weight, (r, *shape), summed over all places and calls."""
        found: Tensor | None = None
        for place in self.places[name]:
            for call in calls.get(place.module, ()):
                own = place.rule(place.module, place.attribute, call.inputs, call.delta, rows)
                found = own if found is None else found + own
        if found is None:
            weight = self._model.get_parameter(name)
            return weight.new_zeros(rows, *weight.shape)
        return found


def _places(model: nn.Module, name: str) -> list[Place]:
    """Where a weight lies, under all its names; empty if any place has no rule."""
    weight = model.get_parameter(name)
    places = []
    for module in model.modules():
        for attribute, parameter in module._parameters.items():
            if parameter is weight:
                rule = rule_of(module)
                if rule is None or attribute not in ("weight", "bias"):
                    return []
                places.append(Place(module=module, attribute=attribute, rule=rule))
    return places


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient for a block: only those by outputs are wanted."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fast = torch.backends.mha.get_fastpath_enabled()
    for parameter in asking:
        parameter.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)  # it would pass the layers inside by
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in asking:
            parameter.requires_grad_(True)


@final
class _Watch:
    """Inputs and outputs of watched modules, and then the gradients by the outputs."""

    def __init__(self) -> None:
        self.calls: dict[nn.Module, list[Call]] = {}
        self._leaves: list[Tensor] = []
        self._seen: list[tuple[nn.Module, Any, list[Tensor]]] = []

    def note(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Remember one call; the first outputs on every path become leaves of the graph."""
        kept = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        if not output.requires_grad:
            leaf = output.detach().requires_grad_()
            self._leaves.append(leaf)
            output = leaf.clone()  # what comes next may write into its input
        delta: list[Tensor] = []
        output.register_hook(delta.append)
        self._seen.append((module, kept[0] if len(kept) == 1 else tuple(kept), delta))
        return output

    def backward(self, loss: Tensor) -> None:
        """Send the gradient back, and gather what arrived."""
        if loss.requires_grad:
            torch.autograd.grad(loss, self._leaves, allow_unused=True)
        for module, inputs, delta in self._seen:
            if delta:
                self.calls.setdefault(module, []).append(Call(inputs=inputs, delta=delta[0]))


@contextmanager
def _watched(modules: set[nn.Module]) -> Iterator[_Watch]:
    watch = _Watch()
    hook = cast(Callable[..., Tensor], watch.note)
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
