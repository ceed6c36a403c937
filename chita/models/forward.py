"""Calling networks: one convention, and failures that name the module they rose in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from chita import nested
from chita.errors import ChitaError, InputError
from chita.imports import told


def outputs_of(model: nn.Module, inputs: Any) -> Tensor:
    """Return the output tensor of a network: its output, or the entry `logits` of it.

    Inputs in a tuple or list are positional arguments, those in a dict are named ones.

    Raises `InputError` when the output is neither.
    """
    if isinstance(inputs, Mapping):
        outputs = model(**inputs)
    elif isinstance(inputs, (tuple, list)):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    logits = getattr(outputs, "logits", None) if logits is None else logits
    if isinstance(logits, Tensor):
        return logits
    raise InputError(
        f"{type(model).__name__} returns {type(outputs).__name__}; it must return a tensor (or "
        "logits). For anything else give loss=callable(model, batch)."
    )


@contextmanager
def failures_named(model: nn.Module, batch: Any) -> Iterator[None]:
    """Run a block that calls the network; a failure becomes an `InputError` naming the module.

    `batch` is what the network is called with; its shapes are in the message.
    """
    path: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the network'} ({type(module).__name__})"
        handles.append(module.register_forward_pre_hook(lambda *_, label=label: path.append(label)))
        handles.append(module.register_forward_hook(lambda *_: path.pop() and None))
    try:
        yield
    except ChitaError:
        raise
    except Exception as error:  # a forward pass is the user's code and may raise anything
        place = f"The forward pass fails in {path[-1]}" if path else "The loss fails"
        raise InputError(
            f"{place}: {told(error)}. The batch is {nested.described(batch)}; check that it fits "
            "the network."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str:
    """Return the name of the first module, in order of execution, whose output is not finite.

    `run` calls the network once.
    """
    culprits: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the network'} ({type(module).__name__})"

        def note(_module: nn.Module, _inputs: object, out: object, label: str = label) -> None:
            if any(not bool(torch.isfinite(tensor).all()) for tensor in nested.tensors(out)):
                culprits.append(label)

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return culprits[0] if culprits else "the loss itself (outputs are finite)"
