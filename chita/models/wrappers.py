"""Wrappers around networks and inside, judged by type, and the names of tensors without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from chita.errors import InputError
from chita.imports import is_of
from chita.models.tensors import is_plain
from chita.naming import plain_name, plain_names

_HOLDERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside `DataParallel`, `DistributedDataParallel`, `torch.compile`, EMA.

    The parameters are the same tensors, so a change of the one is seen by the other. A wrapper of
    another type, or one with a forward pass of its own, is a network.

    Raises `InputError` when this is no network.
    """
    while isinstance(model, nn.Module):
        held = next((kind for kind in _HOLDERS if isinstance(model, kind)), None)
        if held is not None and type(model).forward is held.forward:
            model = cast(nn.Module, model.module)
        elif _is_compiled(model):
            model = cast(nn.Module, model._modules["_orig_mod"])
        else:
            return model
    raise InputError(f"The network is a {type(model).__name__}; give a torch.nn.Module.")


def _is_compiled(module: nn.Module) -> bool:
    """Return whether this is itself what `torch.compile` returned."""
    return is_of(module, "torch", "OptimizedModule")


def check_modules(model: nn.Module) -> None:
    """Raise `InputError` on TorchScript, whose weights cannot be reached by name."""
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"The network is TorchScript ({type(model).__name__}). Give the torch.nn.Module that "
            "it was made of, and script or trace the pruned one."
        )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run compiled parts of a network as they were written, for a block.

    Gradients per row are taken by transforms that compiled code does not allow.
    """
    compiled = any(
        _is_compiled(module) or vars(module).get("_compiled_call_impl") is not None
        for module in model.modules()
    )
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def check_no_adapters(model: nn.Module) -> None:
    """Raise `InputError` where `peft` put adapters around weights, or beside them."""
    if any(is_of(module, "peft") for module in model.modules()):
        raise InputError(
            f"{type(model).__name__} has adapters (peft): its weights are only a part of what it "
            "computes with, so zeros of theirs are none of its own. Prune the network first and "
            "add adapters afterwards. Merge trained ones by chita.masks.lora.merge_adapter, which "
            "keeps zeros, or by model.merge_and_unload()."
        )


def plain_state(model: nn.Module) -> dict[str, Any]:
    """Return the state dict of a network under plain names; see `plain_names`."""
    state = model.state_dict()
    return {plain: state[name] for plain, name in plain_names(state).items()}


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Return the one name of every parameter, by its path in the network.

    It is that of the same tensor in the plain state dict, which may differ from the path: wrappers
    take themselves out of it. Masks, files and records have this name.
    """
    state = plain_state(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    places: dict[object, list[str]] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            places.setdefault(place(value), []).append(name)
    copies = {*places.pop(None, ())}  # or without memory: known by their names alone
    for where in places.keys() - {*map(place, parameters.values())}:
        copies |= {*places[where]}
    found = {}
    for path, parameter in parameters.items():
        names = places.get(place(parameter), copies)
        fallback = path if names is copies else next(iter(names))
        found[path] = next((n for n in (path, plain_name(path)) if n in names), fallback)
    return found


def place(tensor: Tensor) -> object:
    """Return what tensors share that lie in the same memory; None where they have none."""
    if not is_plain(tensor) or not tensor.numel():
        return None
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
