"""The gradients of rows one by one: many at a time through `torch.func`, or each by a backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from chita import nested
from chita.data.examples import cut
from chita.losses import Loss
from chita.models.forward import failures_named

Found = tuple[dict[str, Tensor], Tensor]
"""Name to gradients (r, ...), and losses (r,)."""


@final
class Objective(nn.Module):
    """A network with its loss: batch to mean loss."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.training = model.training

    def forward(self, batch: Any) -> Tensor:
        """The mean loss, a scalar."""
        return self.loss.mean(self.model, batch).reshape(())


def by_vmap(
    objective: Objective, weights: Mapping[str, Tensor], row_size: int, batch: Any
) -> Found:
    """The rows of a batch of r·m samples, all at a time; the network may write into its inputs."""
    wanted = {f"model.{name}": weight.detach() for name, weight in weights.items()}
    taken = {id(weight) for weight in weights.values()}
    # A tied weight is left out under its other names too: torch.func ties them again.
    state = [*objective.named_parameters(), *objective.named_buffers()]
    fixed = {name: tensor.detach() for name, tensor in state if id(tensor) not in taken}

    def row_loss(changed: dict[str, Tensor], row: Any) -> Tensor:
        return cast(Tensor, functional_call(objective, {**fixed, **changed}, (row,)))

    dims = nested.map_leaves(lambda leaf: 0 if isinstance(leaf, Tensor) else None, batch)
    grouped = nested.map_tensors(lambda t: t.clone().unflatten(0, (-1, row_size)), batch)
    with _slow_but_right():
        gradients, losses = vmap(grad_and_value(row_loss), in_dims=(None, dims))(wanted, grouped)
    return {name.removeprefix("model."): g for name, g in gradients.items()}, losses


def losses_by_vmap(objective: Objective, row_size: int, batch: Any) -> Tensor:
    """The losses (r,) of the rows of a batch, each forward pass seeing its own row alone.

    Fails where the network decides by values of its activations.
    """
    with torch.no_grad():
        return each_alone(objective, row_size, batch)


def each_alone(function: Callable[[Any], Tensor], row_size: int, batch: Any) -> Tensor:
    """Return a function of every row of a batch, (r, ...), through `torch.func`."""
    dims = nested.map_leaves(lambda leaf: 0 if isinstance(leaf, Tensor) else None, batch)
    grouped = nested.map_tensors(lambda t: t.clone().unflatten(0, (-1, row_size)), batch)
    with _slow_but_right():
        return vmap(function, in_dims=(dims,))(grouped)


def by_loop(
    objective: Objective, weights: Mapping[str, Tensor], row_size: int, batch: Any
) -> Found:
    """The rows of a batch, each by a plain backward; a failure names its module."""
    rows = list(cut(batch, row_size))
    found = {name: weight.new_zeros(len(rows), *weight.shape) for name, weight in weights.items()}
    losses = []
    with torch.enable_grad(), _differentiable(weights), failures_named(objective.model, rows[0]):
        for i, row in enumerate(rows):
            loss = objective(nested.map_tensors(torch.clone, row))
            losses.append(loss.detach())
            if not loss.requires_grad:
                continue
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for own, gradient in zip(found.values(), gradients, strict=True):
                if gradient is not None:
                    own[i] = gradient.to_dense() if gradient.is_sparse else gradient
    return found, torch.stack(losses)


@contextmanager
def _slow_but_right() -> Iterator[None]:
    """Silence `torch.func` about what it does slowly, since it does it right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


@contextmanager
def _differentiable(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let gradients reach weights that were frozen, for a block."""
    frozen = [weight for weight in weights.values() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
