"""Which parameters of a network may be pruned, and how to read and write them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from chita.errors import InputError
from chita.layout import Axes, Layout

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def prunable_layout(model: nn.Module) -> Layout:
    """Return the layout of all weights of linear and convolution layers, in module order.

    Biases and norms never belong to it. A weight that several modules share appears once, under
    its first name.

    Raises `InputError` when there is none, or when a module computes its weight from other
    parameters (`torch.nn.utils.parametrize`, `torch.nn.utils.prune`), since a change of it would
    be lost.
    """
    names, shapes, axes = [], [], []
    seen: set[int] = set()
    for name, weight, axis in _weights(model):
        if id(weight) not in seen:
            seen.add(id(weight))
            names.append(name)
            shapes.append(tuple(weight.shape))
            axes.append(axis)
    if not names:
        raise InputError(
            f"{type(model).__name__} has no weight of a linear or convolution layer, so there is "
            "nothing to prune."
        )
    return Layout(names=tuple(names), shapes=tuple(shapes), axes=tuple(axes))


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor, Axes]]:
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear):
            axis = Axes()
        elif isinstance(module, _CONVOLUTIONS):
            axis = Axes(groups=module.groups)
        elif isinstance(module, _TRANSPOSED):
            axis = Axes(output=1, input=0, groups=module.groups)
        else:
            continue
        if "weight" not in dict(module.named_parameters(recurse=False)):
            raise InputError(
                f"The weight of {prefix or type(model).__name__} is computed from other "
                "parameters. Make it plain first: torch.nn.utils.parametrize."
                "remove_parametrizations(module, 'weight'), or torch.nn.utils.prune.remove(module, "
                "'weight')."
            )
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module.weight, UninitializedParameter) or module.weight.is_meta:
            raise InputError(f"{name} has no values yet. Run the network once, or load weights.")
        if not module.weight.is_floating_point():
            raise InputError(f"{name} is {module.weight.dtype}; only real numbers can be pruned.")
        yield name, module.weight, axis


def read_weights(model: nn.Module, layout: Layout) -> Tensor:
    """Return a copy of the weights of `layout` as one flat vector (p,), float32 at least."""
    flat = layout.flatten(dict(model.named_parameters(remove_duplicate=False)))
    return flat.to(torch.promote_types(flat.dtype, torch.float32))


def write_weights(model: nn.Module, layout: Layout, flat: Tensor) -> None:
    """Write a flat vector (p,) into the weights of `layout`, in place.

    Each tensor keeps its type, device and identity, so that optimisers and ties see the change.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, values in layout.unflatten(flat).items():
            parameters[name].copy_(values)
