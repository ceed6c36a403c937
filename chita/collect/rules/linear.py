"""Linear layers: outer products of output gradients and inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Gradients = dict[str, Tensor]
"""Attribute of a module to the gradients of its rows, (r, *shape of the parameter)."""


def linear(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """`nn.Linear`: the sum over samples and positions of a row of δ ⊗ x."""
    x, d = positions(inputs, delta, rows)
    return {"weight": d.transpose(1, 2) @ x, "bias": d.sum(1)}


def linear_inputs_first(module: nn.Module, inputs: Tensor, delta: Tensor, rows: int) -> Gradients:
    """Hugging Face's `Conv1D`, whose weight is (in, out)."""
    x, d = positions(inputs, delta, rows)
    return {"weight": x.transpose(1, 2) @ d, "bias": d.sum(1)}


def bilinear(
    module: nn.Module, inputs: tuple[Tensor, Tensor], delta: Tensor, rows: int
) -> Gradients:
    """`nn.Bilinear`: the sum of δ ⊗ x ⊗ y."""
    x, d = positions(inputs[0], delta, rows)
    y, _ = positions(inputs[1], delta, rows)
    return {"weight": torch.einsum("rlo,rli,rlj->roij", d, x, y), "bias": d.sum(1)}


def positions(inputs: Tensor, delta: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Inputs (r, l, in) and output gradients (r, l, out), l samples times positions of a row.

    The batch must be the outermost dimension of both; what lies between is a position.
    """
    return (
        inputs.reshape(rows, -1, inputs.shape[-1]),
        delta.reshape(rows, -1, delta.shape[-1]),
    )
