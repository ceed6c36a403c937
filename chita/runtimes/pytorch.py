"""PyTorch as it is: the network itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.models.forward import failures_named
from chita.runtimes.inputs import Inputs, outputs_by_name
from chita.runtimes.runtime import Loaded, Runtime


@final
class TorchRuntime(Runtime):
    """PyTorch in eager mode."""

    name = "torch"
    why_not = "it stores zeros densely and computes with them"

    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Loaded:
        """Return a copy of the network, which was called once."""
        return loaded(copy.deepcopy(network), inputs)


def loaded(network: nn.Module, inputs: Inputs, note: str = "") -> Loaded:
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
    return Loaded(run=run, note=note)
