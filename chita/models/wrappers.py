"""Wrappers around networks, and the network inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from chita.errors import InputError

_HOLDERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside `DataParallel`, `DistributedDataParallel`, `torch.compile`, EMA.

    The parameters are the same tensors, so a change of the one is seen by the other.

    Raises `InputError` when this is no network.
    """
    while isinstance(model, nn.Module):
        if isinstance(model, _HOLDERS):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile(model)
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model
    raise InputError(f"The network is a {type(model).__name__}; give a torch.nn.Module.")


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run compiled parts of a network as they were written, for a block.

    Gradients per row are taken by transforms that compiled code does not allow.
    """
    compiled = any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in model.modules()
    )
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield
