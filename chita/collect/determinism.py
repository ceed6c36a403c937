"""Refuse what would spoil per-row gradients, by the name of the module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from chita import nested
from chita.errors import InputError
from chita.losses import Loss
from chita.models.forward import labelled_modules

_DROPOUT = nn.modules.dropout._DropoutNd
_BATCH_NORM = nn.modules.batchnorm._BatchNorm  # InstanceNorm looks at one sample at a time
_WITH_DROPOUT = (nn.MultiheadAttention, nn.RNNBase)


def check_modes(model: nn.Module) -> None:
    """Raise `InputError` that names every module whose output depends on chance or on its batch.

    Those are norms that use the batch's own statistics (in train mode, or without running ones)
    and dropout that is on. A row's gradient would then depend on its neighbours or on the draw.
    """
    faults = []
    for label, module in labelled_modules(model):
        if isinstance(module, _BATCH_NORM) and module.running_mean is None:
            faults.append(f"{label} has no running statistics and uses those of the batch")
        elif isinstance(module, _BATCH_NORM) and module.training:
            faults.append(f"{label} is in train mode and uses the statistics of the batch")
        elif module.training and _drops(module):
            faults.append(f"{label} is in train mode and drops at random")
    if faults:
        raise InputError(
            f"Row gradients would be wrong: {'; '.join(faults)}. Call model.eval() first; give "
            "norms running statistics."
        )


def _drops(module: nn.Module) -> bool:
    if isinstance(module, _DROPOUT):
        return module.p > 0
    return isinstance(module, _WITH_DROPOUT) and module.dropout > 0


def check_deterministic(model: nn.Module, loss: Loss, batch: Any) -> None:
    """Raise `InputError` when two forward passes over the same batch differ in their loss.

    Catches dropout that ignores eval mode.
    """
    with torch.no_grad():
        first, second = (loss.mean(model, nested.copied(batch)) for _ in range(2))
        if not torch.equal(first, second) and bool(torch.isfinite(first).all()):
            raise InputError(
                f"{type(model).__name__} gives two outputs for the same inputs, so its gradients "
                "are not those of one function. Turn off its randomness in eval mode."
            )
