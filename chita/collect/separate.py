"""The gradients of rows one by one: many at a time through `torch.func`, or each by a backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from chita import nested
from chita.data.examples import cut
from chita.losses import Loss
from chita.models.forward import failures_named
from chita.models.mode import attributes_set, tensors_replaced


@final
class LossModule(nn.Module):
    """A network with its loss: batch to mean loss."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.training = model.training

    def forward(self, batch: Any) -> Tensor:
        """The mean loss, a scalar."""
        return self.loss.mean(self.model, batch).reshape(())


def by_vmap(
    module: LossModule, weights: Mapping[str, Tensor], samples_per_gradient: int, batch: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """Return gradients (r, ...) by name, and losses (r,), of the r rows of a batch, all at a time.

    The network may write into its inputs. Fails where values of samples that are in no tensor are
    used.
    """
    wanted = {name: weight.detach() for name, weight in weights.items()}
    fixed = {tensor: tensor.detach() for tensor in (*module.parameters(), *module.buffers())}

    def row_loss(changed: dict[str, Tensor], row: Any) -> Tensor:
        others = fixed | {weights[name]: tensor for name, tensor in changed.items()}
        with tensors_replaced(module, others):
            return cast(Tensor, module(_hidden(row)))

    with torch.no_grad():  # a loss may have parameters of its own, whose graph would be kept
        found: tuple[dict[str, Tensor], Tensor] = of_each_row(
            lambda row: grad_and_value(row_loss)(wanted, row), samples_per_gradient, batch
        )
    return found


def of_each_row(function: Callable[[Any], Any], samples_per_gradient: int, batch: Any) -> Any:
    """Return a function of every row of a batch, (r, ...), through `torch.func`.

    Each call sees only its own row. Fails where the function decides by values of its tensors.
    """
    rows = [t.clone().unflatten(0, (-1, samples_per_gradient)) for t in nested.tensors(batch)]

    def of_one(*row: Tensor) -> Any:  # `torch.func` maps over tensors, not over types of users
        left = iter(row)
        return function(nested.map_tensors(lambda _: next(left), batch))

    with warnings.catch_warnings():  # what torch.func does slowly, it does right
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return vmap(of_one)(*rows)


def _hidden(row: Any) -> Any:
    return nested.map_leaves(
        lambda leaf: _Unseen() if isinstance(leaf, nested.PerSample) else leaf, row
    )


class _Unseen:
    """Stands for what `torch.func` cannot map over; to use it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise TypeError("torch.func maps over tensors only.")

    def _used(self, *_: object) -> Any:
        raise TypeError("torch.func maps over tensors only.")

    __bool__ = __eq__ = __repr__ = __hash__ = _used


def by_loop(
    module: LossModule, weights: Mapping[str, Tensor], samples_per_gradient: int, batch: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what `by_vmap` does, each row by a plain backward; a failure names its module."""
    rows = list(cut(batch, samples_per_gradient))
    found = {name: weight.new_zeros(len(rows), *weight.shape) for name, weight in weights.items()}
    losses = []
    thawed = attributes_set(weights.values(), "requires_grad", True)
    with torch.enable_grad(), thawed, failures_named(module.model, rows[0]):
        for i, row in enumerate(rows):
            loss = module(nested.copied(row))
            losses.append(loss.detach())
            if not loss.requires_grad:
                continue
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for own, gradient in zip(found.values(), gradients, strict=True):
                if gradient is not None:
                    own[i] = gradient.to_dense() if gradient.is_sparse else gradient
    return found, torch.stack(losses)
