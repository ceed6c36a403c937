"""One forward and one backward for many rows, and what the layers saw on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.affine import affine_norms
from chita.collect.improved import divided, output_norms_of
from chita.collect.rules import Rule, rule_of
from chita.losses import OutputLoss
from chita.losses.outputs import split
from chita.models.forward import hooked, outputs_of
from chita.models.mode import attributes_set


@final
@dataclass(frozen=True, kw_only=True)
class Place:
    """One place of a weight: an attribute of a module that has a rule."""

    module: nn.Module
    attribute: str
    rule: Rule


@final
@dataclass(frozen=True, kw_only=True)
class Use:
    """One use of a weight: its place, the input, or inputs, and the gradient δ by the output."""

    place: Place
    inputs: Any
    delta: Tensor


Uses = Sequence[Use]

TakeUses = Callable[[str, Uses, int], None]
"""Is given the name of a weight, its uses with their δ, and the number of rows."""


@final
class BatchedBackward:
    """A backward pass over batches of r·m samples that gives the uses of given weights.

    The network may write into its inputs, which are copied.

    Args:
        model: the network, in eval mode.
        loss: compared row by row with the outputs of all rows.
        names: the weights; `places` holds where each is used.
        samples_per_gradient: samples m per row.

    Field: `channels_last`, whether images are laid out so, in which convolutions are faster.
    """

    def __init__(
        self, model: nn.Module, loss: OutputLoss, names: Sequence[str], samples_per_gradient: int
    ) -> None:
        self._model, self._loss, self._samples_per_gradient = model, loss, samples_per_gradient
        self.channels_last = any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
        self.places = {name: found for name in names if (found := _places(model, name))}

    def run(self, batch: Any, take: TakeUses, *, improved: bool = False) -> tuple[Tensor, Tensor]:
        """Give each weight of `places` to `take` when all its δ are there; losses and e (r,).

        What it was used on is let go then, so that no more than the network itself is in memory.
        Where `improved`, every δ is that of its row's loss over e (`chita.collect.improved`).
        """
        # No parameter asks for a gradient: the graph begins at the first outputs of layers of
        # `places`, which the recorder makes its leaves.
        with _frozen(self._model), affine_norms(self._model), _recording(self.places) as recorder:
            inputs, targets = split(batch)
            outputs = outputs_of(self._model, nested.map_tensors(self._copied, inputs))
            # δ of the sum of all rows' losses. Samples share nothing in eval mode, so that the
            # part of δ that belongs to a row's samples is that of its own loss.
            losses, delta = self._loss.gradient(outputs, targets, self._samples_per_gradient)
            rows = len(losses)
            # The backward pass is linear in δ: from δ/e come gradients over e.
            norms = output_norms_of(delta, rows)
            delta = divided(delta, norms) if improved else delta
            recorder.backward(outputs, delta, lambda name, uses: take(name, uses, rows))
        return losses, norms

    def _copied(self, tensor: Tensor) -> Tensor:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d} if self.channels_last else {}
        return tensor.clone(memory_format=formats.get(tensor.ndim, torch.contiguous_format))


def summed(uses: Uses, rows: int, weight: Tensor) -> Tensor:
    """Return the gradients of a weight's rows, (r, *shape), summed over all its uses."""
    found: Tensor | None = None
    for use in uses:
        place = use.place
        own = place.rule(place.module, place.attribute, use.inputs, use.delta, rows)
        found = own if found is None else found + own
    return weight.new_zeros(rows, *weight.shape) if found is None else found


def _places(model: nn.Module, name: str) -> list[Place]:
    """Find a weight under all its names; empty if any place has no rule."""
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
    """Take gradients by outputs of layers only, none by parameters, for a block."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would pass the layers inside by
    try:
        with torch.enable_grad(), attributes_set(model.parameters(), "requires_grad", False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@final
@dataclass(kw_only=True)
class _Call:
    """One forward of a module, and then δ, if it arrives."""

    inputs: Any
    delta: Tensor | None = None


@final
class _CallRecorder:
    """The calls of the modules that hold weights, and then the gradients by their outputs."""

    def __init__(self, places: Mapping[str, Sequence[Place]]) -> None:
        self._places = places
        self.names: dict[nn.Module, set[str]] = {}  # weights in every module
        for name, found in places.items():
            for place in found:
                self.names.setdefault(place.module, set()).add(name)
        self._calls: dict[nn.Module, list[_Call]] = {module: [] for module in self.names}
        self._missing = dict.fromkeys(places, 0)  # calls whose δ is yet to come
        self._leaves: list[Tensor] = []
        self._give: Callable[[str, Uses], None]

    def note(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Remember one call; the first outputs on every path become leaves of the graph."""
        kept = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        call = _Call(inputs=kept[0] if len(kept) == 1 else tuple(kept))
        self._calls[module].append(call)
        for name in self.names[module]:
            self._missing[name] += 1
        if not output.requires_grad:  # nothing before it on its path has a weight of `places`
            leaf = output.detach().requires_grad_()
            self._leaves.append(leaf)
            output = leaf.clone()  # what comes next may write into its input
        # δ passes by here once, when all that comes after this call has added its part.
        output.register_hook(lambda delta: self._arrived(module, call, delta))
        return output

    def backward(self, outputs: Tensor, delta: Tensor, give: Callable[[str, Uses], None]) -> None:
        """Send the gradient by the outputs back; what it never reaches is given at the end."""
        self._give = give
        if outputs.requires_grad:
            torch.autograd.grad(outputs, self._leaves, delta, allow_unused=True)
        for name in list(self._missing):  # with calls that the outputs do not depend on
            self._pass_on(name)

    def _arrived(self, module: nn.Module, call: _Call, delta: Tensor) -> None:
        call.delta = delta
        for name in sorted(self.names[module]):
            self._missing[name] -= 1
            if not self._missing[name]:
                self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        """Give a weight, and let go of the calls that no other weight waits for."""
        del self._missing[name]
        places = self._places[name]
        uses = [
            Use(place=place, inputs=call.inputs, delta=call.delta)
            for place in places
            for call in self._calls[place.module]
            if call.delta is not None
        ]
        self._give(name, uses)
        for module in {place.module for place in places}:
            if not self.names[module] & self._missing.keys():
                for call in self._calls.pop(module):
                    call.inputs = call.delta = None


@contextmanager
def _recording(places: Mapping[str, Sequence[Place]]) -> Iterator[_CallRecorder]:
    recorder = _CallRecorder(places)
    with hooked(module.register_forward_hook(recorder.note) for module in recorder.names):
        yield recorder
