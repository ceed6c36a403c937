"""Losses that see the network and the whole batch: its own, and the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.errors import InputError
from chita.losses.loss import Loss, Measure


class _MeanLoss(Loss):
    def measure(self, model: nn.Module, batch: Any) -> Measure:
        """The mean loss itself, with batches weighted by their samples."""
        samples = nested.count(batch)
        samples = 1 if samples is None else samples
        return Measure(
            name=f"mean loss ({self.name})",
            total=float(self.mean(model, batch)) * samples,
            count=samples,
        )


@final
@dataclass(frozen=True)
class OwnLoss(_MeanLoss):
    """The loss that a network returns for a dict: `model(**batch).loss`, as Hugging Face's do."""

    name: str = "model"

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """The entry `loss` of the outputs."""
        if not isinstance(batch, Mapping):
            raise InputError(
                f"A batch is {nested.described(batch)}; the network's own loss needs dicts for "
                "model(**batch). Name a loss for pairs (inputs, targets), such as cross_entropy."
            )
        outputs = model(**batch)
        loss = (
            outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        )
        if not isinstance(loss, Tensor):
            raise InputError(
                f"{type(model).__name__} returned no loss for a batch {nested.described(batch)}. "
                "Put the labels into the batch, or give loss=callable(model, batch)."
            )
        return loss


@final
@dataclass(frozen=True)
class CustomLoss(_MeanLoss):
    """A user's `function(model, batch)`, the mean loss over the samples of a batch."""

    function: Callable[[nn.Module, Any], Tensor]

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """What the function returns.

        Raises `InputError` when that is no scalar tensor.
        """
        loss = self.function(model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = nested.described(loss)
            raise InputError(f"The loss {self.name} returned {what}; it must return a scalar.")
        return loss.reshape(())

    def check(self, model: nn.Module, batch: Any, labels: Any) -> None:
        """One call, whose failure is told."""
        with torch.no_grad():
            self.mean(model, batch)
