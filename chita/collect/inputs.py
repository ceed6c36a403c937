"""Gram matrices of the inputs of layers, added up batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.collect.rules.convolution import windows
from chita.machine import solving_device
from chita.models.forward import hooked
from chita.models.roles import CONVOLUTIONS, is_conv1d

_CHUNK = 4096  # inputs whose products are added up in the type of the inputs


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """The inputs of a layer: `gram`, XᵀX/N (groups, d, d) in float64, a mean over N (`count`).

    An input is a token of a linear layer, or a window of a convolution. Zero where N is.
    """

    gram: Tensor
    count: int


def sees(module: nn.Module, attribute: str) -> bool:
    """Return whether the outputs of a layer are products of this weight with inputs that it sees.

    So with linear layers, convolutions and Hugging Face's `Conv1D`; transposed convolutions add up
    products of several inputs, and attention in one module does not call its layers.
    """
    plain = isinstance(module, (nn.Linear, *CONVOLUTIONS)) or is_conv1d(module)
    return plain and attribute == "weight"


@final
class InputGrams:
    """Gram matrices of the inputs of layers, added up while the network runs.

    Args:
        layers: name to module, each of which `sees`.
        diagonal: add up the diagonals only, (groups, d).

    Products of some thousand inputs are formed in float32 (or float64, where inputs are), and added
    up in float64. Layers that are given the same tensor one after another, as queries, keys and
    values are, share its product.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, diagonal: bool = False) -> None:
        self._layers, self._diagonal = layers, diagonal
        self._sums: dict[str, Tensor] = {}
        self._counts = dict.fromkeys(layers, 0)
        self._last: tuple[Tensor, int, Tensor, int] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of all inputs while a block runs the network."""
        hooks = (
            module.register_forward_pre_hook(partial(self._note, name), with_kwargs=True)
            for name, module in self._layers.items()
        )
        try:
            with hooked(hooks):
                yield
        finally:
            self._last = None

    def of(self, name: str) -> Seen:
        """Return what the layer of this name saw so far."""
        count = self._counts[name]
        if not count:
            return Seen(gram=torch.zeros(0, 0, 0, dtype=torch.float64), count=0)
        return Seen(gram=self._sums[name] / count, count=count)

    def _note(
        self, name: str, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()))
        with torch.no_grad():
            gram, count = self._products(module, inputs)
        if name in self._sums:
            self._sums[name] += gram
        else:
            self._sums[name] = gram.clone()
        self._counts[name] += count

    def _products(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
        """XᵀX of one call (groups, d, d) in float64, and N; the same tensor is not seen twice."""
        plain = not isinstance(module, CONVOLUTIONS)
        last = self._last
        if plain and last is not None and last[0] is inputs and last[1] == inputs._version:
            return last[2], last[3]
        device = solving_device(inputs.device)
        gram, count = torch.zeros((), dtype=torch.float64, device=device), 0
        kind = torch.promote_types(inputs.dtype, torch.float32)
        for part in _parts(module, inputs.detach()):
            for chunk in part.to(kind).split(_CHUNK, dim=1):
                product = chunk.square().sum(1) if self._diagonal else chunk.mT @ chunk
                gram = gram + product.to(device).double()
                count += chunk.shape[1]
        self._last = (inputs, inputs._version, gram, count) if plain else None
        return gram, count


def _parts(module: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """The inputs of a layer, (groups, N, d), part by part."""
    if not isinstance(module, CONVOLUTIONS):
        yield inputs.reshape(1, -1, inputs.shape[-1])
        return
    missing = 2 + len(module.kernel_size) - inputs.ndim  # a single sample may have no dimension
    yield from windows(module, inputs.unsqueeze(0) if missing else inputs)
