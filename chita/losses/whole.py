"""Losses that see the network and the whole batch: its own, and the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import cut, size_of
from chita.errors import InputError
from chita.losses.loss import Loss, Measure
from chita.losses.outputs import IGNORED, CrossEntropy
from chita.models.forward import entry_of


@final
class OwnLoss(Loss):
    """The loss that a network returns for a dict: `model(**batch).loss`, as Hugging Face's do."""

    name = "model"

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """The entry `loss` of the outputs."""
        return self.called(model, batch)[0]

    def run(self, model: nn.Module, batch: Any) -> None:
        """With what the batch has."""
        _check_named(batch)
        model(**batch)

    def measure(self, model: nn.Module, batch: Any) -> Measure:
        """The accuracy, where logits are (b, classes) and labels (b,); else the mean loss.

        Perplexity over tokens, where logits are (b, t, classes) and labels (b, t) their tokens.
        """
        loss, logits = self.called(model, batch)
        labels = batch.get("labels")
        if _classify(logits, labels):
            return CrossEntropy().score(logits, labels)
        if isinstance(logits, Tensor) and _predicts_tokens(batch):
            predicted = int((labels[:, 1:] != IGNORED).sum())
            return Measure(
                name="perplexity", total=float(loss) * predicted, count=predicted, log=True
            )
        return _weighted(self.name, loss, batch)

    def relabelled(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Any:
        """The batch with `labels` drawn by the softmax of logits (b, classes).

        Raises `InputError` for networks of other outputs: which logits belong to which label
        differs from one language model to the next.
        """
        copied = nested.copied(batch)
        with torch.no_grad():
            logits = self.called(model, copied)[1]
        labels = batch.get("labels")
        if _classify(logits, labels):
            classes = CrossEntropy()
            drawn = classes.draw(logits.detach().cpu(), generator).to(labels)
            own = classes.counted_alone(drawn, labels)
            return nested.replaced(batch, {**batch, "labels": own})
        return super().relabelled(model, batch, generator)

    def called(self, model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
        """Return the loss, a scalar, and the entry `logits`, None if absent.

        Raises `InputError` when the batch is no dict or the network returns no loss.
        """
        _check_named(batch)
        outputs = model(**batch)
        loss, logits = entry_of(outputs, "loss"), entry_of(outputs, "logits")
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise InputError(
                f"{type(model).__name__} returned a loss of shape {tuple(loss.shape)}; it must be "
                "the mean over the batch, a scalar. Or give loss=callable(model, batch)."
            )
        if not isinstance(loss, Tensor):
            raise InputError(
                f"{type(model).__name__} returned no loss for a batch {nested.described(batch)}. "
                "Put the labels into the batch, or give loss=callable(model, batch)."
            )
        return loss.reshape(()), logits


def _check_named(batch: Any) -> None:
    """Raise `InputError` on a batch that is no dict."""
    if not isinstance(batch, Mapping):
        raise InputError(
            f"A batch is {nested.described(batch)}; the network's own loss needs dicts for "
            "model(**batch). Name a loss for pairs (inputs, targets), such as cross_entropy."
        )


@final
@dataclass(frozen=True)
class CustomLoss(Loss):
    """A user's `function(model, batch)`, the mean loss over the samples of a batch."""

    function: Callable[[nn.Module, Any], Tensor]

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """Return what the function does.

        Raises `InputError` when that is no scalar tensor.
        """
        return self._called(model, batch).reshape(())

    def _called(self, model: nn.Module, batch: Any) -> Tensor:
        loss = self.function(model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = nested.described(loss)
            raise InputError(f"The loss {self.name} returned {what}; it must return a scalar.")
        return loss

    def measure(self, model: nn.Module, batch: Any) -> Measure:
        """The mean loss itself, with batches weighted by their samples."""
        return _weighted(self.name, self.mean(model, batch), batch)

    def check(self, model: nn.Module, batch: Any, whole: Any) -> None:
        """Call the function once; on two samples, too, where it gives a list of one loss."""
        with torch.no_grad():
            if self._called(model, batch).ndim:
                self.mean(model, nested.copied(next(cut(whole, 2))))


def _weighted(name: str, loss: Tensor, batch: Any) -> Measure:
    samples = size_of(batch)
    return Measure(
        name=f"mean loss ({name}), by samples", total=float(loss) * samples, count=samples
    )


def _predicts_tokens(batch: Any) -> bool:
    """Return whether the labels are the tokens, each predicted from those before it."""
    ids, labels = batch.get("input_ids"), batch.get("labels")
    if not isinstance(ids, Tensor) or not isinstance(labels, Tensor):
        return False
    alike = ids.ndim == 2 and ids.shape == labels.shape
    return alike and bool(((ids == labels) | (labels == IGNORED)).all())


def _classify(logits: Any, labels: Any) -> bool:
    """Return whether logits are those of classes, of which labels name one per sample."""
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
        return False
    whole = not labels.is_floating_point()
    return whole and logits.ndim == 2 and labels.shape == logits.shape[:1] and logits.shape[1] > 1
