"""Embeddings: output gradients added up at the rows that were looked up."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


def embedding(
    module: nn.Module, attribute: str, inputs: Tensor, delta: Tensor, rows: int
) -> Tensor:
    """Return row gradients of `nn.Embedding`; the padding index gets no gradient."""
    layer = cast(nn.Embedding, module)
    count, width = layer.weight.shape
    index = inputs.reshape(rows, -1)
    d = delta.reshape(rows, -1, width)
    if layer.padding_idx is not None:
        d = d * (index != layer.padding_idx).unsqueeze(2)
    found = d.new_zeros(rows, count, width)
    return found.scatter_add_(1, index.unsqueeze(2).expand_as(d), d)
