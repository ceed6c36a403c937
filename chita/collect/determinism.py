"""Refuse what would spoil per-row gradients, by the name of the module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chita.errors import ChitaError, InputError

_DROPOUT = nn.modules.dropout._DropoutNd
_BATCH_NORM = nn.modules.batchnorm._BatchNorm  # InstanceNorm looks at one sample alone
_WITH_DROPOUT = (nn.MultiheadAttention, nn.RNNBase)


def check_modes(model: nn.Module) -> None:
    """Raise `InputError` that names every module whose output depends on chance or on its batch.

    Those are norms that use the batch's own statistics (in train mode, or without running ones)
    and dropout that is on. A row's gradient would then depend on its neighbours or on the draw.
    """
    faults = []
    for name, module in model.named_modules():
        named = f"{name or 'the network'} ({type(module).__name__})"
        if isinstance(module, _BATCH_NORM) and module.running_mean is None:
            faults.append(f"{named} has no running statistics and uses those of the batch")
        elif isinstance(module, _BATCH_NORM) and module.training:
            faults.append(f"{named} is in train mode and uses the statistics of the batch")
        elif (isinstance(module, _DROPOUT) and module.training and module.p > 0) or (
            isinstance(module, _WITH_DROPOUT) and module.training and module.dropout > 0
        ):
            faults.append(f"{named} is in train mode and drops at random")
    if faults:
        raise InputError(
            f"Row gradients would be wrong: {'; '.join(faults)}. Call model.eval() first; give "
            "norms running statistics."
        )


def check_deterministic(model: nn.Module, inputs: Tensor) -> None:
    """Raise `InputError` when two forward passes over the same inputs differ.

    Catches dropout that ignores eval mode. Also raises, with the module's name, when the forward
    pass fails.
    """
    with torch.no_grad():
        first = forward(model, inputs)
        if not torch.equal(first, forward(model, inputs)) and bool(torch.isfinite(first).all()):
            raise InputError(
                f"{type(model).__name__} gives two outputs for the same inputs, so its gradients "
                "are not those of one function. Turn off its randomness in eval mode."
            )


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
