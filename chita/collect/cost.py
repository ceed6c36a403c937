"""What one sample costs a network, without running it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chita import nested
from chita.losses import Loss
from chita.models.mode import evaluation_mode


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one sample: `flops` of a forward pass, `activations` in bytes of all modules' outputs.

    `positions` is the number of positions that each linear module sees, over all its calls.
    """

    flops: int
    activations: int
    positions: dict[str, int]


def sample_cost(model: nn.Module, loss: Loss, sample: Any) -> Cost | None:
    """Return the cost of a batch of one sample, by shapes alone (on the meta device).

    None where the network looks at values, which shapes do not tell.
    """
    try:
        # Parameters are replaced while copying, so that no memory is taken for them.
        state = [*model.parameters(), *model.buffers()]
        memo = {id(tensor): _on_meta(tensor) for tensor in state}
        shell = copy.deepcopy(model, memo)
        batch = nested.map_tensors(lambda t: t.to("meta"), sample)
        outputs = 0

        positions: dict[str, int] = {}

        def add(name: str, module: nn.Module, out: object) -> None:
            nonlocal outputs
            outputs += sum(t.numel() * t.element_size() for t in nested.tensors(out))
            if isinstance(module, nn.Linear) and isinstance(out, torch.Tensor):
                seen = out.numel() // module.out_features
                positions[name] = positions.get(name, 0) + seen

        for name, module in shell.named_modules():
            module.register_forward_hook(lambda m, _, out, name=name: add(name, m, out))
        with evaluation_mode(shell), torch.no_grad(), FlopCounterMode(display=False) as counter:
            loss.mean(shell, batch)
        return Cost(flops=int(counter.get_total_flops()), activations=outputs, positions=positions)
    except Exception:  # noqa: BLE001 (user code on a device that it was not written for)
        return None


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    moved = tensor.detach().to("meta")
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
