"""One forward and one backward for many rows, and what the layers saw on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
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
class Holder:
    """A module that holds a weight, under which attribute, and the rule for it."""

    module: nn.Module
    attribute: str
    rule: Rule


@final
@dataclass(frozen=True, kw_only=True)
class Use:
    """One use of a weight: its holder, the input, or inputs, and the gradient δ by the output."""

    holder: Holder
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
        names: the weights; `holders` has the modules of those that rules can serve.
        samples_per_gradient: samples m per row.

    Images are laid out with channels last, in which convolutions are faster, unless the network
    fails on that.
    """

    def __init__(
        self, model: nn.Module, loss: OutputLoss, names: Sequence[str], samples_per_gradient: int
    ) -> None:
        self._model, self._loss, self._samples_per_gradient = model, loss, samples_per_gradient
        self._channels_last = any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
        self.holders = {name: found for name in names if (found := _holders(model, name))}

    def serve_only(self, names: Set[str]) -> None:
        """Give the uses of these weights only, from now on."""
        self.holders = {name: held for name, held in self.holders.items() if name in names}

    def uses(self, batch: Any) -> tuple[dict[str, Uses], int]:
        """Return the uses of all weights at once, by name, and the number of rows."""
        found: dict[str, Uses] = {}

        def take(name: str, uses: Uses, _rows: int) -> None:
            found[name] = uses

        try:
            losses, _ = self.run(batch, take)
        except Exception:  # views of activations fail in another layout
            if not self._channels_last:
                raise
            self._channels_last = False
            losses, _ = self.run(batch, take)
        return found, len(losses)

    def run(
        self, batch: Any, take: TakeUses, *, improved: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Give each weight of `holders` to `take` when all its δ are there; losses and e (r,).

        What it was used on is let go then, so that no more than the network itself is in memory.
        Where `improved`, every δ is that of its row's loss over e (`chita.collect.improved`), and
        otherwise e is None.
        """
        # No parameter asks for a gradient: the graph begins at the first outputs of layers of
        # `holders`, which the recorder makes its leaves.
        recorder = _CallRecorder(self.holders)
        hooks = (module.register_forward_hook(recorder.note) for module in recorder.names)
        with _frozen(self._model), affine_norms(self._model), hooked(hooks):
            inputs, targets = split(batch)
            outputs = outputs_of(self._model, nested.copied(inputs, self._copied))
            # δ of the sum of all rows' losses. Samples share nothing in eval mode, so that the
            # part of δ that belongs to a row's samples is that of its own loss.
            losses, delta = self._loss.gradient(outputs, targets, self._samples_per_gradient)
            rows = len(losses)
            # The backward pass is linear in δ: from δ/e come gradients over e.
            norms = output_norms_of(delta, rows) if improved else None
            delta = delta if norms is None else divided(delta, norms)
            recorder.backward(outputs, delta, lambda name, uses: take(name, uses, rows))
        return losses, norms

    def _copied(self, tensor: Tensor) -> Tensor:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d} if self._channels_last else {}
        return tensor.clone(memory_format=formats.get(tensor.ndim, torch.contiguous_format))


def summed(uses: Uses, rows: int, weight: Tensor) -> Tensor:
    """Return the gradients of a weight's rows, (r, *shape), summed over all its uses."""
    found: Tensor | None = None
    for use in uses:
        held = use.holder
        own = held.rule(held.module, held.attribute, use.inputs, use.delta, rows)
        found = own if found is None else found + own
    return weight.new_zeros(rows, *weight.shape) if found is None else found


def _holders(model: nn.Module, name: str) -> list[Holder]:
    """Find all modules that hold a weight; empty if there is no rule for one of them."""
    weight = model.get_parameter(name)
    holders = []
    for module in model.modules():
        for attribute, parameter in module._parameters.items():
            if parameter is weight:
                rule = rule_of(module)
                if rule is None or attribute not in ("weight", "bias"):
                    return []
                holders.append(Holder(module=module, attribute=attribute, rule=rule))
    return holders


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Take gradients by outputs of layers only, none by parameters, for a block."""
    with torch.enable_grad(), attributes_set(model.parameters(), "requires_grad", False):
        yield


@dataclass(kw_only=True)
class _Call:
    """One forward of a module, and then δ, if it arrives."""

    inputs: Any
    delta: Tensor | None = None


class _CallRecorder:
    """The calls of the modules that hold weights, and then the gradients by their outputs."""

    def __init__(self, holders: Mapping[str, Sequence[Holder]]) -> None:
        self._holders = holders
        self.names: dict[nn.Module, set[str]] = {}  # weights in every module
        for name, held in holders.items():
            for holder in held:
                self.names.setdefault(holder.module, set()).add(name)
        self._calls: dict[nn.Module, list[_Call]] = {module: [] for module in self.names}
        self._missing = dict.fromkeys(holders, 0)  # calls whose δ is yet to come
        self._leaves: list[Tensor] = []
        self._give: Callable[[str, Uses], None]

    def note(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Remember one call; the first outputs on every path become leaves of the graph."""
        kept = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        call = _Call(inputs=kept[0] if len(kept) == 1 else tuple(kept))
        self._calls[module].append(call)
        for name in self.names[module]:
            self._missing[name] += 1
        if not output.requires_grad:  # nothing before it on its path has a weight of `holders`
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
        holders = self._holders[name]
        uses = [
            Use(holder=holder, inputs=call.inputs, delta=call.delta)
            for holder in holders
            for call in self._calls[holder.module]
            if call.delta is not None
        ]
        self._give(name, uses)
        for module in {holder.module for holder in holders}:
            if not self.names[module] & self._missing.keys():
                for call in self._calls.pop(module):
                    call.inputs = call.delta = None
