"""Inputs and outputs of networks as flat lists of tensors with names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.batches import Data, batches_of
from chita.errors import InputError
from chita.models.forward import failures_named
from chita.models.mode import inference, without_cache

_TARGETS = ("labels", "label")  # entries of a batch that ask for a loss


@final
@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The `tensors` of one call, whose first dimension counts samples, and their `names`.

    `keywords` says whether the network takes them by name.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    keywords: bool

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.tensors[0])

    @property
    def by_name(self) -> dict[str, Tensor]:
        """The tensors by their names."""
        return dict(zip(self.names, self.tensors, strict=True))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        """Return them with a function applied to every tensor."""
        return replace(self, tensors=tuple(map(function, self.tensors)))

    def resized(self, samples: int) -> Inputs:
        """Return the first samples, repeated where there are too few."""
        index = torch.arange(samples, device="cpu") % self.samples
        return self.mapped(lambda t: t[index.to(t.device)])

    def varied(self, samples: int) -> Inputs:
        """Return so many samples of which no two are the same, made of the first ones.

        Each is turned along its last dimension by its number, and numbers are scaled by it, too.
        """

        def made(tensor: Tensor) -> Tensor:
            parts = [part.roll(i, -1) if part.ndim else part for i, part in enumerate(tensor)]
            if tensor.is_floating_point():
                parts = [part * (1 - i / 16) for i, part in enumerate(parts)]
            return torch.stack(parts)

        return self.resized(samples).mapped(made)

    def called(self, network: nn.Module) -> Any:
        """Return what the network makes of them, as it returns it."""
        if self.keywords:
            return network(**self.by_name)
        return network(*self.tensors)


def inputs_of(given: Any) -> Inputs:
    """Return the inputs of a call: a tensor, a tuple or list of them, or a dict by name.

    Entries `labels` of a dict are left out, and so is what is no tensor.

    Raises `InputError` when there is no tensor, or the first sizes differ.
    """
    if isinstance(given, Inputs):
        return given
    if isinstance(given, Mapping):
        named = {
            str(name): value
            for name, value in given.items()
            if isinstance(value, Tensor) and name not in _TARGETS
        }
        names, tensors = tuple(named), tuple(named.values())
    else:
        flat = [given] if isinstance(given, Tensor) else given
        listed = isinstance(flat, (tuple, list)) and all(isinstance(t, Tensor) for t in flat)
        tensors = tuple(flat) if listed else ()
        single = len(tensors) == 1
        names = ("input",) if single else tuple(f"input_{i}" for i in range(len(tensors)))
    if not tensors or nested.count(tensors) in (None, 0):
        raise InputError(
            f"The inputs are {nested.described(given)}; give what the network is called with: a "
            "tensor, a tuple of tensors or a dict of them, with samples in the first dimension."
        )
    return Inputs(tensors=tensors, names=names, keywords=isinstance(given, Mapping))


def sampled_inputs(network: nn.Module, data: Data | None, samples: int) -> Inputs | None:
    """Return inputs of so many samples: of the data, or `dummy_inputs` of the network.

    None if the network has no `dummy_inputs` and there are no data.
    """
    if data is not None:
        batch = next(batches_of(data, samples))
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        return inputs_of(batch[0] if pair else batch).resized(samples)
    example = getattr(network, "dummy_inputs", None)
    return None if example is None else inputs_of(example).resized(samples)


def outputs_by_name(outputs: Any, inputs: Inputs) -> dict[str, Tensor]:
    """Return the tensors of what a network returned for `inputs`.

    A single one is `output`; those of a mapping have its names, those of a sequence are `output_0`
    and so on, and what lies deeper has names with dots. One that is named as an input has `_out`
    behind its name.

    Raises `InputError` if there are no tensors.
    """
    named = _named(outputs, "")
    found = {f"{name}_out" if name in inputs.names else name: tensor for name, tensor in named}
    if not found:
        raise InputError(
            f"The network returns {nested.described(outputs)}; only tensors can leave with it."
        )
    return found


def _named(outputs: Any, place: str) -> list[tuple[str, Tensor]]:
    if isinstance(outputs, Tensor):
        return [(place or "output", outputs)]
    if isinstance(outputs, Mapping):
        parts = [(f"{place}.{name}" if place else str(name), v) for name, v in outputs.items()]
    elif isinstance(outputs, (tuple, list)):
        start = f"{place}." if place else "output_"
        parts = [(f"{start}{i}", v) for i, v in enumerate(outputs)]
    else:
        return []
    return [found for name, value in parts for found in _named(value, name)]


def reference(network: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Return the outputs by name, computed in eval mode; nothing in the network changes.

    Raises `InputError` when it cannot be called so, or returns no tensor.
    """
    with inference(network), without_cache(network), failures_named(network, inputs.tensors):
        return outputs_by_name(inputs.called(network), inputs)
