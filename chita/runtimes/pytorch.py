"""PyTorch as it is: the network itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.models.forward import failures_named
from chita.runtimes.inputs import Inputs, outputs_by_name
from chita.runtimes.runtime import Opened, Runtime


@final
class TorchRuntime(Runtime):
    """PyTorch in eager mode."""

    name = "torch"
    why_not = "it stores zeros densely and computes with them"

    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Opened:
        """A copy of the network, called."""
        return opened(network, inputs)


def opened(network: nn.Module, inputs: Inputs, note: str = "") -> Opened:
    """Return a copy of a network, ready to run: in eval mode, without a cache.

    Raises `InputError` when it cannot be called with such inputs.
    """
    model = copy.deepcopy(network).eval()
    if getattr(getattr(model, "config", None), "use_cache", None):
        model.config.use_cache = False  # type: ignore[union-attr]

    @torch.no_grad()
    def run(inputs: Inputs) -> dict[str, Tensor]:
        return outputs_by_name(inputs.called(model))

    with failures_named(model, inputs.tensors):
        run(inputs)
    return Opened(run=run, note=note)
