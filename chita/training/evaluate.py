"""How good a network is on data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chita.data.batches import Examples, as_examples
from chita.errors import InputError
from chita.models.forward import forward
from chita.models.mode import evaluation_mode
from chita.progress import Progress, Silent, track

METRIC = "top-1 accuracy, per cent"
_BATCH = 1000


def accuracy(
    model: nn.Module, data: Examples | tuple[Tensor, Tensor], *, progress: Progress | None = None
) -> float:
    """Return the top-1 accuracy in per cent, in eval mode; the training flags are restored.

    Raises `InputError` when the forward pass fails (naming the module), or the outputs are not
    (b, classes).
    """
    progress = progress or Silent()
    data = as_examples(data)
    correct = 0
    with (
        track(progress, "evaluate", len(data), "samples"),
        evaluation_mode(model),
        torch.inference_mode(),
    ):
        for inputs, targets in data.batches(_BATCH):
            outputs = forward(model, inputs.clone())  # it may write into them
            if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
                raise InputError(
                    "Accuracy needs outputs (batch, classes) and targets (batch,); "
                    f"{type(model).__name__} gave {tuple(outputs.shape)} for targets "
                    f"{tuple(targets.shape)}."
                )
            correct += int((outputs.argmax(1) == targets).sum())
            progress.advance(len(targets))
    return 100 * correct / len(data)
