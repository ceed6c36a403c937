"""Modes of PyTorch, flags, forward passes and tensors: changed for a block, then given back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import filterfalse
from typing import Any

import torch
from torch import Tensor, nn

from chita.errors import InputError
from chita.models.tensors import is_packed, is_plain
from chita.naming import listed

State = dict[str, Tensor]
"""All tensors of a network."""

_AUTOCAST = ("cpu", "cuda", "mps", "xpu")  # devices on which operators may be cast by themselves

_PRECISIONS = [
    ("generic", "all"),
    *((backend, of) for of in ("all", "matmul", "conv", "rnn") for backend in ("cuda", "mkldnn")),
]
"""Settings of how float32 is rounded before it is multiplied, wider ones first."""

_FLAGS: list[tuple[Callable[[], Any], Callable[[Any], object], Any]] = [
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (
        lambda: torch.backends.cudnn.allow_tf32,
        lambda allowed: setattr(torch.backends.cudnn, "allow_tf32", allowed),
        False,
    ),
]
"""The flags before these, which PyTorch still compares with them: read, write, whole float32."""


@contextmanager
def own_modes() -> Iterator[None]:
    """Compute in one set of modes for a block, whatever the caller has set around it.

    Inference mode and autocast are off, and what is float32 is multiplied and convolved in float32,
    not in TF32 or bfloat16. So a call gives inside such a region what it gives outside. The network
    runs in these modes, too; one that needs autocast enters it in its own forward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in filter(torch.is_autocast_enabled, _AUTOCAST):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_whole_products())
        yield


@contextmanager
def _whole_products() -> Iterator[None]:
    """Multiply and convolve float32 tensors in float32 for a block.

    A setting that is unset shows what a wider one says. So the wider ones are unset first, and all
    get back what they held themselves.
    """
    flags, precisions = [], []
    for read, write, whole in _FLAGS:
        with suppress(RuntimeError):  # set in two ways that contradict each other
            flags.append((write, read(), whole))
    for kind in _PRECISIONS if hasattr(torch._C, "_get_fp32_precision_getter") else ():  # 2.9
        precisions.append((kind, torch._C._get_fp32_precision_getter(*kind)))
        torch._C._set_fp32_precision_setter(*kind, "none")
    for write, _, whole in flags:
        write(whole)
    try:
        yield
    finally:
        for write, before, _ in flags:
            write(before)
        for kind, own in precisions:
            torch._C._set_fp32_precision_setter(*kind, own)


@contextmanager
def layers_called() -> Iterator[None]:
    """Let `nn.TransformerEncoder` and attention call their layers one by one, for a block.

    PyTorch's fast path passes the layers inside by, or gives them packed inputs, so it is off
    wherever modules are watched.
    """
    mha = torch.backends.mha
    with _setting(mha.get_fastpath_enabled, mha.set_fastpath_enabled, False):
        yield


@contextmanager
def _setting(read: Callable[[], Any], write: Callable[[Any], object], value: Any) -> Iterator[None]:
    """Give a setting of PyTorch another value for a block."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextmanager
def training_flags(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a network in train or eval mode for a block, then restore every module's own flag."""
    before = model.training
    with attributes_set(model.modules(), "training", training):
        model.train(training)  # which a network may have written itself
        try:
            yield
        finally:
            with suppress(Exception):  # one that only goes the other way
                model.train(before)


def check_modes(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names weights which change when the network changes its mode.

    Some adapters add themselves to the weights they stand beside in eval mode, and zeros are lost.
    """
    if all(type(module).train is nn.Module.train for module in model.modules()):
        return
    plain = filter(is_plain, model.parameters())
    kept: dict[Tensor, Tensor] = {own: own.detach().clone() for own in plain}
    found: list[str] = []
    with suppress(Exception), training_flags(model, training=not model.training):
        found = [name for name, own in weights.items() if not torch.equal(own, kept[own])]
    with torch.no_grad():
        for own, before in kept.items():
            if not torch.equal(own, before):  # by rounding, on the way there and back
                own.copy_(before)
    if found:
        raise InputError(
            f"{listed(found, 5)}: the values change when the network goes from train to eval mode, "
            "as those of adapters do that are merged there (loralib), so zeros would be lost. "
            "Prune the network before adapters are added, or with plain layers of merged weights."
        )


def evaluation_mode(model: nn.Module) -> AbstractContextManager[None]:
    """Put a network in eval mode for a block, then restore every module's own flag."""
    return training_flags(model, training=False)


@contextmanager
def attributes_set(owners: Iterable[Any], name: str, value: Any) -> Iterator[None]:
    """Give an attribute of several objects another value for a block."""
    before = [(owner, getattr(owner, name)) for owner in owners]
    try:
        for owner, _ in before:
            setattr(owner, name, value)
        yield
    finally:
        for owner, own in before:
            setattr(owner, name, own)


def forward_replaced(
    module: nn.Module, forward: Callable[..., Any]
) -> AbstractContextManager[None]:
    """Give a module another forward pass for a block."""
    return method_replaced(module, "forward", forward)


@contextmanager
def method_replaced(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Give one object another method for a block."""
    own = vars(owner)
    before = own.get(name)
    own[name] = method
    try:
        yield
    finally:
        if before is None:
            del own[name]
        else:
            own[name] = before


@contextmanager
def tensors_replaced(model: nn.Module, others: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Give a network others for its parameters and buffers for a block, wherever they are held.

    So a tensor with several names, or of a module with several names, is replaced, and given back,
    once in each place.
    """
    held: list[dict[str, Any]] = []
    for module in model.modules():
        held += [module._parameters, module._buffers]
    before = [(own, name, tensor) for own in held for name, tensor in own.items()]
    try:
        for own, name, tensor in before:
            own[name] = tensor if tensor is None else others.get(tensor, tensor)
        yield
    finally:
        for own, name, tensor in before:
            own[name] = tensor


def without_cache(model: nn.Module) -> AbstractContextManager[None]:
    """Let a network keep no keys and values of what it has seen, for a block.

    Hugging Face's decoders do, unless their configuration says `use_cache = False`.
    """
    config = getattr(model, "config", None)
    return attributes_set(
        [config] if getattr(config, "use_cache", None) else [], "use_cache", False
    )


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """Let a network of Hugging Face compute attention step by step, for a block.

    Fused attention looks for rows that are masked whole, by operators that few programs know.
    """
    choose: Any = getattr(model, "set_attn_implementation", None)
    before = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if choose is None or before in (None, "eager"):
        yield
        return
    choose("eager")
    try:
        yield
    finally:
        choose(before)


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """Run the network in a block and then restore what running it changes: its buffers.

    So with embeddings that are renormalised whenever they are read (`max_norm`).
    """
    renormalised = [
        module.weight
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None
    ]
    changing = [*filterfalse(is_packed, model.buffers()), *renormalised]
    kept = [(tensor, tensor.detach().clone()) for tensor in changing]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                if not torch.equal(tensor, before):
                    tensor.copy_(before)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Run a network in a block as it is used: in eval mode, without gradients, its state kept."""
    with evaluation_mode(model), state_kept(model), torch.no_grad():
        yield


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers by their paths, tied ones under one name.

    A state dict may leave some out, rename or convert them, as its network wishes. Sparse, nested
    and quantised ones, which nothing changes in place, are left out.
    """
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor for name, tensor in named if not is_packed(tensor)}


def state_of(model: nn.Module, names: Collection[str] | None = None) -> State:
    """Return a copy of the parameters and buffers of a network, or of those named, in memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors_of(model).items()
        if names is None or name in names
    }


def restore(model: nn.Module, state: State) -> None:
    """Give parameters and buffers the values of a state, in place."""
    with torch.no_grad():
        for name, tensor in tensors_of(model).items():
            if name in state:
                tensor.copy_(state[name])


def changed_since(model: nn.Module, before: State) -> State:
    """Return those tensors of a state, on the network's device, that the network has otherwise."""
    now = tensors_of(model)
    return {name: kept for name, kept in before.items() if not torch.equal(kept, now[name])}


@contextmanager
def at_state(model: nn.Module, state: State) -> Iterator[None]:
    """Give a network other tensors for a block, then those that it had."""
    now = {name: tensor for name, tensor in state_of(model).items() if name in state}
    restore(model, state)
    try:
        yield
    finally:
        restore(model, now)
