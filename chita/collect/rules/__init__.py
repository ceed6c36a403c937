"""Rules for the gradients of single rows from what one batched backward passes by.

A rule takes a module, the name of its parameter ("weight" or "bias"), its input and the gradient δ
of the summed row losses by its output, both of r·m samples in order, and returns the gradients of
the r rows, (r, *shape of the parameter), summed over the m samples of each. Goodfellow (2015) and
Rochette et al. (2019) use the same products for per-sample gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from chita.collect.rules.convolution import convolution, transposed_convolution
from chita.collect.rules.embedding import embedding
from chita.collect.rules.linear import bilinear, linear, linear_inputs_first, positions
from chita.collect.rules.norm import batch_norm, group_norm, layer_norm, rms_norm
from chita.models.roles import is_conv1d

Rule = Callable[[nn.Module, str, Any, Tensor, int], Tensor]

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Bilinear: bilinear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.ConvTranspose1d: transposed_convolution,
    nn.ConvTranspose2d: transposed_convolution,
    nn.ConvTranspose3d: transposed_convolution,
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.GroupNorm: group_norm,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
}
"""The rule of each type of module."""


def rule_of(module: nn.Module) -> Rule | None:
    """Return the rule of a module, None if it has no rule.

    A subclass has the rule of its base only where it has the base's forward pass.
    """
    if is_conv1d(module):
        return linear_inputs_first
    for kind, rule in RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            plain = not (isinstance(module, nn.Embedding) and _weighted(module))
            return rule if plain else None
    return None


def _weighted(module: nn.Embedding) -> bool:
    """Return whether gradients are scaled by counts of the batch, or weights change when read."""
    return module.scale_grad_by_freq or module.max_norm is not None


__all__ = ["RULES", "Rule", "positions", "rule_of"]
