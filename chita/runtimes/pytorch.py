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
        return opened(copy.deepcopy(network), inputs)


def opened(network: nn.Module, inputs: Inputs, note: str = "") -> Opened:
    """Return a network ready to run: it is put in eval mode, and keeps no cache from now on.

    Raises `InputError` when it cannot be called with such inputs.
    """
    network.eval()
    if getattr(getattr(network, "config", None), "use_cache", None):
        network.config.use_cache = False  # type: ignore[union-attr]

    @torch.no_grad()
    def run(inputs: Inputs) -> dict[str, Tensor]:
        return outputs_by_name(inputs.called(network), inputs)

    with failures_named(network, inputs.tensors):
        run(inputs)
    return Opened(run=run, note=note)
