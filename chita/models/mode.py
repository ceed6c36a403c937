"""Flags, forward passes and tensors of networks: changed for a block, then given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""All tensors of a network."""


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


def state_of(model: nn.Module) -> State:
    """Return a copy of all tensors of a network, in plain memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor)
    }


@contextmanager
def at_state(model: nn.Module, state: State) -> Iterator[None]:
    """Give a network other tensors for a block, then those that it had."""
    now = state_of(model)
    model.load_state_dict(state, strict=False)  # extra state is no tensor
    try:
        yield
    finally:
        model.load_state_dict(now, strict=False)
