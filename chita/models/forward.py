"""Forward passes whose failures name the module that they rose in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chita.errors import ChitaError, InputError


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return model(inputs); a failure is raised as `InputError` naming the module it rose in.

    Raises `InputError` also when the output is not a tensor.
    """
    path: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the network'} ({type(module).__name__})"
        handles.append(module.register_forward_pre_hook(lambda *_, label=label: path.append(label)))
        handles.append(module.register_forward_hook(lambda *_: path.pop() and None))
    try:
        outputs = model(inputs)
    except ChitaError:
        raise
    except Exception as error:  # a forward pass is the user's code and may raise anything
        place = path[-1] if path else type(model).__name__
        raise InputError(
            f"The forward pass fails in {place}: {type(error).__name__}: {error}. The inputs are "
            f"{tuple(inputs.shape)} {inputs.dtype}; check that they fit the network."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"{type(model).__name__} returns {type(outputs).__name__}; it must return a tensor."
        )
    return outputs


def first_not_finite(model: nn.Module, inputs: Tensor) -> str:
    """Return the name of the first module, in order of execution, whose output is not finite."""
    culprits: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the network'} ({type(module).__name__})"

        def note(_module: nn.Module, _inputs: object, out: object, label: str = label) -> None:
            if isinstance(out, Tensor) and not bool(torch.isfinite(out).all()):
                culprits.append(label)

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return culprits[0] if culprits else "the loss itself (outputs are finite)"
