"""The objective of training: the loss, smoothed, or beside the outputs of the dense network."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from chita.errors import InputError
from chita.losses import Loss, OutputLoss
from chita.losses.outputs import CrossEntropy, MeanSquaredError, split
from chita.losses.whole import OwnLoss
from chita.models.forward import outputs_of
from chita.training.recipe import Training


@final
class Objective:
    """The mean loss of a network on a batch, as `Training` asks for it.

    Args:
        loss: of the network and its data.
        training: label smoothing and distillation, with their formulas.
        teacher: the dense network, in eval mode, for distillation.

    Raises `InputError` where the loss has no labels to smooth, or no outputs to compare.
    """

    def __init__(self, loss: Loss, training: Training, teacher: nn.Module | None) -> None:
        self._loss, self._training, self._teacher = loss, training, teacher
        if training.label_smoothing and not isinstance(loss, CrossEntropy):
            raise InputError(
                f"label_smoothing is for cross_entropy; this loss is {loss.name}. Leave it out."
            )
        if training.distillation and not isinstance(loss, (OutputLoss, OwnLoss)):
            raise InputError(
                f"distillation compares outputs, and {loss.name} is a function of yours that keeps "
                "them to itself. Leave it out, or distil in that function."
            )

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean over the samples of a batch, a scalar with gradient."""
        if not self._training.label_smoothing and self._teacher is None:
            return self._loss.mean(model, batch)
        found, outputs = self._with_outputs(model, batch)
        if self._teacher is None:
            return found
        with torch.no_grad():
            _, theirs = self._with_outputs(self._teacher, batch)
        share = self._training.distillation
        return (1 - share) * found + share * self._divergence(outputs, theirs)

    def _with_outputs(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss, smoothed, and the outputs."""
        if isinstance(self._loss, OwnLoss):
            loss, logits = self._loss.called(model, batch)
            if not isinstance(logits, Tensor):
                raise InputError(
                    f"distillation compares logits, and {type(model).__name__} returns none. Leave "
                    "it out."
                )
            return loss, logits
        assert isinstance(self._loss, OutputLoss)
        inputs, targets = split(batch)
        outputs = outputs_of(model, inputs)
        smoothing = self._training.label_smoothing
        if smoothing:
            return functional.cross_entropy(outputs, targets, label_smoothing=smoothing), outputs
        return self._loss.compare(outputs, targets).squeeze(0), outputs

    def _divergence(self, ours: Tensor, theirs: Tensor) -> Tensor:
        if isinstance(self._loss, MeanSquaredError):
            return functional.mse_loss(ours, theirs)
        axis, temperature = -1 if isinstance(self._loss, OwnLoss) else 1, self._training.temperature
        mine = (ours / temperature).log_softmax(axis).movedim(axis, -1).flatten(0, -2)
        dense = (theirs / temperature).log_softmax(axis).movedim(axis, -1).flatten(0, -2)
        divergence = functional.kl_div(mine, dense, log_target=True, reduction="batchmean")
        return temperature**2 * divergence
