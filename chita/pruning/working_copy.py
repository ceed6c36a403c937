"""The network that a run works on: a copy, or the user's own, given back as it was on an error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from chita.errors import InputError
from chita.layout import Layout


@contextmanager
def restored_on_error(
    network: nn.Module, layout: Layout | None, *, inplace: bool
) -> Iterator[None]:
    """Give the network its weights of a layout, or all, and its buffers back when a block fails.

    Nothing is done for a network that is not the user's own.
    """
    if not inplace:
        yield
        return
    weights = network.parameters() if layout is None else map(network.get_parameter, layout.names)
    tensors = [*weights, *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, kept in zip(tensors, before, strict=True):
                tensor.copy_(kept)
        raise


def copied(model: nn.Module, advice: str = "Pass inplace=True to prune it itself.") -> nn.Module:
    """Return a copy of a network; raise `InputError`, with advice, where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # modules may define how they are copied, and fail in any way
        raise InputError(f"{type(model).__name__} cannot be copied: {error}. {advice}") from error
