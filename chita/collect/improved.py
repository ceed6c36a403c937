"""Rows of the improved empirical Fisher: each over the length of its gradient by the outputs.

The empirical Fisher weighs a sample by its gradient squared, so that one on which the network is
right has next to no curvature: its outputs may change freely until it is wrong. Divided by
e = ‖∂loss/∂outputs‖, a row is the gradient of the outputs in the direction in which they should
go, which is as long where the network is right. Wu et al., An improved empirical Fisher
approximation for natural gradient descent (NeurIPS 2024), section 5, which divides by e too, in
the dual form of a solve. What building taught is in `docs/architecture.md`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.separate import of_each_row
from chita.data.examples import cut
from chita.losses import OutputLoss
from chita.losses.outputs import split
from chita.models.forward import outputs_of


def output_norms_of(gradient: Tensor, rows: int) -> Tensor:
    """Return e (r,) from the gradient of the losses by the outputs (r·m, ...).

    An e that is mostly rounding of that gradient (8 ulp of 1) is raised to that.
    """
    wide = gradient.reshape(rows, -1).to(torch.promote_types(gradient.dtype, torch.float32))
    length: Tensor = wide.norm(dim=1)
    return length.clamp_min(8 * torch.finfo(gradient.dtype).eps)


def divided(gradient: Tensor, output_norms: Tensor) -> Tensor:
    """Return gradients of rows (r, ...), or of their samples (r·m, ...), over e (r,)."""
    rows = gradient.reshape(len(output_norms), -1)
    return (rows / output_norms.to(rows.dtype).unsqueeze(1)).view_as(gradient)


def output_norms_by_rows(
    model: nn.Module, loss: OutputLoss, samples_per_gradient: int, batch: Any, *, vectorised: bool
) -> Tensor:
    """Return e (r,) of a network that must see each row by itself, at a further forward pass."""
    inputs, targets = split(batch)
    with torch.no_grad():
        if vectorised:
            each = of_each_row(lambda x: outputs_of(model, x), samples_per_gradient, inputs)
            outputs = each.flatten(0, 1)
        else:
            parts = (nested.copied(part) for part in cut(inputs, samples_per_gradient))
            outputs = torch.cat([outputs_of(model, part) for part in parts])
    losses, gradient = loss.gradient(outputs, targets, samples_per_gradient)
    return output_norms_of(gradient, len(losses))
