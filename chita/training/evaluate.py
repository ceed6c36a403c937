"""How good a network is on data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from chita import nested
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples, as_examples
from chita.errors import InputError
from chita.losses import LossLike, check_loss, make_loss
from chita.metrics import number
from chita.models.forward import failures_named
from chita.models.mode import evaluation_mode, state_kept
from chita.models.wrappers import unwrapped
from chita.progress import track
from chita.progress.shown import ProgressLike, progress_of

_BATCH = 500  # samples that run together
_TOKENS = 2048  # the same of text, whose outputs may be as many as words for each token
_LARGEST = 700.0  # of a mean whose exponential is a number


@final
@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured `value` of a `metric`, which is named with its unit, over `count` units.

    `neighbours`, of embeddings alone: see `chita.training.fidelity`.

    >>> str(Score(metric="top-1 accuracy, per cent", value=93.97, count=10_000))
    'top-1 accuracy, per cent: 93.97'
    """

    metric: str
    value: float
    count: int
    neighbours: float | None = None

    def __str__(self) -> str:
        return f"{self.metric}: {number(self.metric, self.value)}"


def evaluate(
    model: nn.Module, data: Data, *, loss: LossLike = None, progress: ProgressLike = None
) -> Score:
    """Return how good a network is, in eval mode; the training flags are restored.

    The measure belongs to the loss: accuracy in per cent (of samples, pixels or positions) for
    classes, the mean squared error for mse, perplexity for language models, else the mean loss.

    Args:
        model: the network.
        data: samples at once (a pair (inputs, targets), a dict), or re-readable batches.
        loss: as in `prune`; None for the kind of the batch.
        progress: told of every batch; True shows it, see `prune`.

    Raises:
        InputError: the forward pass fails (naming the module), or targets do not fit outputs.

    >>> data = (torch.eye(2), torch.tensor([0, 0]))
    >>> evaluate(nn.Identity(), data).value
    50.0
    """
    check_loss(loss)
    shown = progress_of(progress)
    model = unwrapped(model)
    total, count, names, logs = 0.0, 0, set[str](), set[bool]()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    indexed = as_examples(data) or data
    size = len(indexed) if isinstance(indexed, Indexed) else 0  # batches do not tell
    with (
        track(shown, "evaluate", size, "samples") as told,
        evaluation_mode(model),
        state_kept(model),
        torch.no_grad(),
    ):
        for batch in batches_of(data, _together(indexed)):
            # Copied, since a network may write into it.
            copied = nested.map_tensors(lambda t: t.to(device, copy=True), batch)
            with failures_named(model, batch):
                measure = make_loss(loss, batch).measure(model, copied)
            total, count = total + measure.total, count + measure.count
            names.add(measure.name)
            logs.add(measure.log)
            told.advance(nested.count(batch) or 1)
    if not count:
        raise InputError("The evaluation data hold no labelled sample; give targets.")
    value = total / count
    if logs == {True}:
        value = math.exp(min(value, _LARGEST))
    return Score(metric=" / ".join(sorted(names)), value=value, count=count)


def _together(data: object) -> int:
    """How many samples run at a time."""
    batch = data.parts[0] if isinstance(data, Examples) else None
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        return _BATCH
    return max(1, min(_BATCH, _TOKENS // max(1, ids.shape[1])))
