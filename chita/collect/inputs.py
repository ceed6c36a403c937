"""Gram matrices of the inputs of layers, added up batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.collect.plain_layer import plain_layer
from chita.collect.rules.convolution import windows
from chita.layout import Layout
from chita.machine import solving_device
from chita.models.mode import forward_replaced, layers_called, own_modes
from chita.models.roles import CONVOLUTIONS, is_conv1d

_CHUNK = 4096  # inputs whose products are added up in the type of the inputs


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """The inputs of a layer: `gram`, XᵀX/N (groups, d, d) in float64, a mean over N (`count`).

    An input is a token of a linear layer, or a window of a convolution. Zero where N is, as it is
    where a `fault` says why the inputs do not show what the layer gives.
    """

    gram: Tensor
    count: int
    fault: str | None = None


def sees(module: nn.Module, attribute: str) -> bool:
    """Return whether the outputs of a layer should be products of this weight with its inputs.

    So with linear layers, convolutions and Hugging Face's `Conv1D`; transposed convolutions add up
    products of several inputs, and attention in one module does not call its layers. A subclass may
    compute anything: `InputGrams` compares.
    """
    plain = isinstance(module, (nn.Linear, *CONVOLUTIONS)) or is_conv1d(module)
    return plain and attribute == "weight"


def all_seen(model: nn.Module, layout: Layout) -> bool:
    """Return whether all tensors of a layout could be pruned layer by layer."""
    places = (name.rpartition(".") for name in layout.names)
    return all(sees(model.get_submodule(owner), own) for owner, _, own in places)


@final
class InputGrams:
    """Gram matrices of the inputs of layers, added up while the network runs.

    Args:
        layers: name to the modules of one weight, each of which `sees`.
        diagonal: add up the diagonals only, (groups, d).

    Products of some thousand inputs are formed in float32 (or float64, where inputs are), and added
    up in float64. Layers that are given the same tensor one after another, as queries, keys and
    values are, share its product. A layer whose outputs are not Wx + b in every call has a fault.
    """

    def __init__(
        self, layers: Mapping[str, Sequence[nn.Module]], *, diagonal: bool = False
    ) -> None:
        self._layers, self._diagonal = layers, diagonal
        self._sums: dict[str, Tensor] = {}
        self._counts = dict.fromkeys(layers, 0)
        self._faults: dict[str, str] = {}
        self._last: tuple[Tensor, int, Tensor, int] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of all inputs while a block runs the network."""
        with layers_called(), ExitStack() as stack:
            for name, modules in self._layers.items():
                for module in modules:
                    called = partial(self._called, name, module, module.forward)
                    stack.enter_context(forward_replaced(module, called))
            try:
                yield
            finally:
                self._last = None

    def of(self, name: str) -> Seen:
        """Return what the layer of this name saw so far."""
        count, fault = self._counts[name], self._faults.get(name)
        if not count or fault:
            empty = torch.zeros(0, 0, 0, dtype=torch.float64, device="cpu")
            return Seen(gram=empty, count=0, fault=fault)
        return Seen(gram=self._sums[name] / count, count=count)

    def _called(
        self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run a layer; note its inputs, and whether its outputs are products with them."""
        inputs: Any = args[0] if args else next(iter(kwargs.values()), None)
        is_plain = None
        if name not in self._faults:
            with torch.no_grad(), own_modes():  # the network may set others around its layers
                is_plain = plain_layer(module, inputs)
                if is_plain is not None:  # noted before the layer may write into them
                    self._note(name, module, inputs)
        outputs = forward(*args, **kwargs)
        with torch.no_grad(), own_modes():
            if is_plain is None or not is_plain(outputs):
                self._faults[name] = "computes something else than Wx + b"
        return outputs

    def _note(self, name: str, module: nn.Module, inputs: Tensor) -> None:
        gram, count = self._products(module, inputs)
        if name in self._sums:
            self._sums[name] += gram
        else:
            self._sums[name] = gram.clone()
        self._counts[name] += count

    def _products(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
        """XᵀX of one call (groups, d, d) in float64, and N; the same tensor is not seen twice."""
        # Tensors of inference mode do not tell whether they were written to.
        plain = not isinstance(module, CONVOLUTIONS) and not inputs.is_inference()
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
