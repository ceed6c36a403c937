"""The quality of a network on data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from chita import nested
from chita.data.batches import Data, a_few, batches_of
from chita.data.examples import Examples, as_examples, size_of
from chita.errors import InputError
from chita.losses import LossLike, Measure, check_loss, make_loss
from chita.metrics import measured_on, number
from chita.models.forward import failures_named
from chita.models.mode import inference
from chita.models.wrappers import unwrapped
from chita.progress.display import ProgressLike, progress_of
from chita.training.passes import run_over

_BATCH = 500  # samples that run together
_TOKENS = 2048  # the same of text, whose outputs may be as many as words for each token
_SEQUENCES, _SAMPLES = 64, 2000  # on which a command measures a network
_LARGEST = 700.0  # of a mean whose exponential is a number


@final
@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured `value` of a `metric`, which is named with its unit, over `count` units.

    `samples` were run, `of` all that there are; None where that is not known.
    `neighbours`, of embeddings only: the share of samples, in per cent, whose nearest other sample
    is the same for both networks (`chita.training.fidelity`).

    >>> str(Score(metric="top-1 accuracy, per cent", value=93.97, count=10_000))
    'top-1 accuracy, per cent: 93.97'
    """

    metric: str
    value: float
    count: int
    neighbours: float | None = None
    samples: int | None = None
    of: int | None = None

    def __str__(self) -> str:
        part = measured_on(self.metric, self.samples, self.of)
        return f"{self.metric}: {number(self.metric, self.value)}{part}"


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
        progress: gets every batch; True shows it, see `prune`.

    Raises:
        InputError: the forward pass fails (naming the module), or targets do not fit outputs.

    >>> data = (torch.eye(2), torch.tensor([0, 0]))
    >>> evaluate(nn.Identity(), data).value
    50.0
    """
    check_loss(loss)
    shown = progress_of(progress)
    model, data = unwrapped(model), as_examples(data) or data

    def measured(batch: Any) -> tuple[Measure, int]:
        return make_loss(loss, batch).measure(model, batch), size_of(batch)

    found = run_over(model, data, _together(data), measured, task="evaluate", progress=shown)
    measures, sizes = zip(*found, strict=True)
    count = sum(measure.count for measure in measures)
    if not count:
        raise InputError("The evaluation data hold no labelled sample; give targets.")
    value = sum(measure.total for measure in measures) / count
    if all(measure.log for measure in measures):
        value = math.exp(min(value, _LARGEST))
    names = {measure.name for measure in measures}
    samples = sum(sizes)
    metric = " / ".join(sorted(names))
    return Score(metric=metric, value=value, count=count, samples=samples, of=samples)


def check_evaluation(model: nn.Module, data: Data, loss: LossLike = None) -> None:
    """Measure a network on two samples, and compare its outputs with all targets in memory.

    Raises `InputError` as `evaluate` would do.
    """
    evaluate(model, a_few(data), loss=loss)
    examples, model = as_examples(data), unwrapped(model)
    if examples is None or nested.count(examples.parts[0]) is None:
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    first = nested.map_tensors(lambda t: t.to(device, copy=True), next(examples.firsts(1)))
    with inference(model), failures_named(model, first):
        make_loss(loss, first).check(model, first, examples.parts[0])


def usual_count(data: Data) -> int:
    """Return on how many samples a command measures a network where it is not told.

    That is 64 sequences of text, of which each token is predicted, and 2,000 of other samples.
    """
    with torch.random.fork_rng(devices=[]):  # from which a loader takes seeds
        batch = next(batches_of(data, 1))
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    text = isinstance(labels, torch.Tensor) and labels.ndim == 2 and _tokens(batch) is not None
    return _SEQUENCES if text else _SAMPLES


def _together(data: Data) -> int:
    """Return how many samples run at a time at most."""
    tokens = _tokens(data.parts[0]) if isinstance(data, Examples) else None
    return _BATCH if tokens is None else max(1, min(_BATCH, _TOKENS // max(1, tokens)))


def _tokens(batch: Any) -> int | None:
    """Return how many tokens a sequence of a batch has, None of other samples."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    return ids.shape[1] if isinstance(ids, torch.Tensor) and ids.ndim == 2 else None
