"""Adapters of low rank, merged into a pruned network that stays pruned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from chita.errors import InputError
from chita.imports import is_of
from chita.masks.enforce import Enforcer
from chita.masks.fit import Masks, fit_masks


@final
@dataclass(frozen=True, kw_only=True)
class Merged:
    """A network with its adapter merged under masks.

    Fields: `model`, plain again; `lost`, by tensor that the adapter changed, the share of the
    squared norm of its update that fell on removed weights and is not in the result.
    """

    model: nn.Module = field(repr=False)
    lost: dict[str, float]


def merge_adapter(model: Any, masks: Masks) -> Merged:
    """Merge the adapters of a `peft` network, in place, and keep its zeros.

    Merging adds B A, which is dense, to every adapted weight, so a plain merge fills all zeros.
    Here the removed weights are zero again after it. What the adapter had learned to do through
    them is lost, and `lost` is its share: expect about the sparsity, and measure.

    Args:
        model: what `peft.get_peft_model` returned, trained.
        masks: named masks of the network inside, or a run folder or file that holds them.

    Raises:
        InputError: the network has no adapters that can be merged, or masks do not fit.
    """
    if not is_of(model, "peft") or not hasattr(model, "merge_and_unload"):
        raise InputError(
            f"{type(model).__name__} has no adapters to merge; give what peft.get_peft_model "
            "returned."
        )
    base = _weights(model.get_base_model())
    before = {name: weight.detach().clone() for name, weight in base.items()}
    merged: nn.Module = model.merge_and_unload()
    fitted, _ = fit_masks(merged, masks)
    lost = {}
    for name, mask in fitted.items():
        if name in before:
            update = (merged.get_parameter(name).detach() - before[name]).double().square()
            if bool(update.any()):
                lost[name] = float(update[~mask].sum() / update.sum())
    Enforcer(merged, fitted)
    return Merged(model=merged, lost=lost)


def _weights(network: nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the weights under adapters, by the names that they have without."""
    return {
        name.replace(".base_layer.", "."): weight
        for name, weight in network.named_parameters()
        if ".base_layer." in name
    }
