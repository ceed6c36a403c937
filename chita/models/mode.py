"""Modes of PyTorch, flags, forward passes and tensors: changed for a block, then given back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""All tensors of a network."""

_AUTOCAST = ("cpu", "cuda", "mps", "xpu")  # devices on which operators may be cast by themselves


@contextmanager
def own_modes() -> Iterator[None]:
    """Compute in one set of modes for a block, whatever the caller has set around it.

    Inference mode and autocast are off, and float32 matrices are multiplied in float32, not in
    TF32 or bfloat16. So a call gives inside such a region what it gives outside. The network runs
    in these modes, too; one that needs autocast enters it in its own forward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in filter(torch.is_autocast_enabled, _AUTOCAST):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_whole_products())
        yield


def _whole_products() -> AbstractContextManager[None]:
    """Multiply float32 matrices in float32 for a block."""
    kinds = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    if not any(hasattr(kind, "fp32_precision") for kind in kinds):  # PyTorch before 2.9
        return _setting(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
        )
    rounding = [k for k in kinds if getattr(k, "fp32_precision", "none") not in ("none", "ieee")]
    return attributes_set(rounding, "fp32_precision", "ieee") if rounding else nullcontext()


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
    with attributes_set(model.modules(), "training", training):
        model.train(training)  # which a network may have written itself
        yield


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


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another forward pass for a block."""
    own = vars(module)
    before = own.get("forward")
    own["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before


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
    kept = [(tensor, tensor.detach().clone()) for tensor in (*model.buffers(), *renormalised)]
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
    """Return all parameters and buffers by their paths, tied ones under one name.

    A state dict may leave some out, rename or convert them, as its network wishes.
    """
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


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
