"""Calling networks: one convention, and failures that name the module they rose in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from chita import nested
from chita.errors import ChitaError, InputError
from chita.imports import cause
from chita.models.mode import layers_called


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
    logits = entry_of(outputs, "logits")
    if isinstance(logits, Tensor):
        return logits
    raise InputError(
        f"{type(model).__name__} returns {type(outputs).__name__}; it must return a tensor (or "
        "logits). For anything else give loss=callable(model, batch)."
    )


def entry_of(outputs: Any, name: str) -> Any:
    """Return an entry of the outputs of a network by its name, None where they have none."""
    found = outputs.get(name) if isinstance(outputs, Mapping) else None
    return getattr(outputs, name, None) if found is None else found


def hooked(handles: Iterable[RemovableHandle]) -> ExitStack:
    """Return a context in which hooks see all layers called; they are registered now."""
    stack = ExitStack()
    stack.enter_context(layers_called())
    for handle in handles:
        stack.enter_context(handle)
    return stack


def labelled_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the modules of a network, each with its name and type for a message.

    Those of TorchScript, which take no hooks, are left out.
    """
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            yield f"{name or 'the network'} ({type(module).__name__})", module


@contextmanager
def failures_named(model: nn.Module, batch: Any) -> Iterator[None]:
    """Run a block that calls the network; a failure becomes an `InputError` naming the module.

    `batch` is what the network is called with; its shapes are in the message.
    """
    path: list[str] = []

    def tracked() -> Iterator[RemovableHandle]:
        for label, module in labelled_modules(model):
            yield module.register_forward_pre_hook(lambda *_, label=label: path.append(label))
            yield module.register_forward_hook(lambda *_: path.pop() and None)

    try:
        with ExitStack() as stack:  # not `hooked`: the network runs as it is used
            for handle in tracked():
                stack.enter_context(handle)
            yield
    except ChitaError:
        raise
    except Exception as error:  # a forward pass is the user's code and may raise anything
        place = f"The forward pass fails in {path[-1]}" if path else "The loss fails"
        raise InputError(
            f"{place}: {cause(error)}. The batch is {nested.described(batch)}; check that it fits "
            "the network."
        ) from error


def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str:
    """Return the name of the first module, in order of execution, whose output is not finite.

    `run` calls the network once.
    """
    culprits: list[str] = []

    def note(label: str, out: object) -> None:
        if any(not bool(torch.isfinite(tensor).all()) for tensor in nested.tensors(out)):
            culprits.append(label)

    hooks = (
        module.register_forward_hook(lambda _m, _in, out, label=label: note(label, out))
        for label, module in labelled_modules(model)
    )
    with hooked(hooks), torch.no_grad():
        run()
    return culprits[0] if culprits else "the loss itself (outputs are finite)"
