"""Linear layers: outer products of output gradients and inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear(module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int) -> Tensor:
    """Return row gradients of `nn.Linear`: the sum over samples and positions of a row of δ ⊗ x."""
    x, d = positions(inputs, delta, rows)
    return d.sum(1) if attribute == "bias" else d.transpose(1, 2) @ x


def linear_inputs_first(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of Hugging Face's `Conv1D`, whose weight is (in, out)."""
    x, d = positions(inputs, delta, rows)
    return d.sum(1) if attribute == "bias" else x.transpose(1, 2) @ d


def bilinear(
    module: nn.Module, attribute: str, inputs: tuple[Tensor, Tensor], delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.Bilinear`: the sum of δ ⊗ x ⊗ y."""
    x, d = positions(inputs[0], delta, rows)
    y, _ = positions(inputs[1], delta, rows)
    return d.sum(1) if attribute == "bias" else torch.einsum("rlo,rli,rlj->roij", d, x, y)


def positions(inputs: Tensor, delta: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return inputs (r, l, in) and output gradients (r, l, out), l samples × positions of a row.

    The batch must be the outermost dimension of both; what lies between is a position.
    """
    return (inputs.reshape(rows, -1, inputs.shape[-1]), delta.reshape(rows, -1, delta.shape[-1]))
