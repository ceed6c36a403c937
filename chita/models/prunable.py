"""The weights of a network that are pruned, as one flat vector: chosen, read, written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.machine import solving_device
from chita.models.device import check_finite
from chita.models.targets import check_prunable, decide


def prunable_layout(
    model: nn.Module,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
) -> Layout:
    """Return the layout of all weights to prune, in module order; see `targets.decide`.

    Biases and norms never belong to it unless named. A weight that several modules share appears
    once, under its first name as a layer's weight.

    Raises `InputError` when nothing is left to prune, when a rule matches nothing, or when a module
    computes its weight from other parameters (`torch.nn.utils.parametrize`,
    `torch.nn.utils.prune`), since a change of it would be lost.
    """
    decisions = [decision for decision in decide(model, targets, ignore) if decision.pruned]
    check_prunable(decisions)
    if not decisions:
        raise InputError(
            f"There is nothing to prune: {type(model).__name__} has no weight of a linear, "
            "convolution, attention or recurrent layer that is not ignored. Name others with "
            "`targets`; `chita plan` lists what there is."
        )
    chosen = [decision.role for decision in decisions]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return Layout(
        names=tuple(role.name for role in chosen),
        shapes=tuple(tuple(parameters[role.name].shape) for role in chosen),
        axes=tuple(role.axes for role in chosen),
        width=max(parameters[role.name].element_size() for role in chosen),
    )


def read_weights(model: nn.Module, layout: Layout) -> Tensor:
    """Return a copy of the weights of `layout` as one flat vector (p,), float32 at least.

    It lies where the problem is solved (`chita.machine.solving_device`).

    Raises `InputError` that names every tensor with NaN or infinite values.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    narrow = [n for n in layout.names if parameters[n].itemsize == 1]
    if narrow:
        raise InputError(
            f"{', '.join(narrow)} are {parameters[narrow[0]].dtype}, in which PyTorch does not "
            "compute. Convert the network to a wider type first."
        )
    check_finite(type(model).__name__, {name: parameters[name] for name in layout.names})
    flat = layout.flatten(parameters)
    flat = flat.to(solving_device(flat.device))
    return flat.to(torch.promote_types(flat.dtype, torch.float32))


def write_weights(model: nn.Module, layout: Layout, flat: Tensor) -> None:
    """Write a flat vector (p,) into the weights of `layout`, in place.

    Each tensor keeps its type, device and identity, so that optimisers and ties see the change.

    Raises `NumericalError` that names the tensors whose type cannot hold the values; nothing is
    written then.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    cast = {n: values.to(parameters[n].dtype) for n, values in layout.unflatten(flat).items()}
    bad = [name for name, values in cast.items() if not bool(torch.isfinite(values).all())]
    if bad:
        raise NumericalError(
            f"The new weights are too large for the type of {', '.join(bad)}. Prune the network "
            "in float32 (model.float()), or raise `ridge`."
        )
    with torch.no_grad():
        for name, values in cast.items():
            parameters[name].copy_(values)
