"""The likeness of what two networks make of the same samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from chita.data.batches import Data
from chita.errors import InputError
from chita.metrics import COSINE
from chita.progress import Placed, Progress, Silent
from chita.training.evaluate import Score
from chita.training.passes import run_over

_BATCH = 100


def fidelity(
    dense: nn.Module, pruned: nn.Module, data: Data, progress: Progress | None = None
) -> Score:
    """Return how alike two networks embed samples, dicts for `model(**batch)`.

    Its value is the mean over samples of the cosine between the two embeddings. `neighbours` is the
    share of samples, in per cent, whose nearest other sample by cosine is the same in both.
    `progress` gets every batch.

    Raises `InputError` when a network gives no embeddings, or there are fewer than two samples.
    """
    shown = progress or Silent()
    theirs = embeddings(dense, data, Placed(shown, after=" dense"))
    ours = embeddings(pruned, data, Placed(shown, after=" pruned"))
    if len(ours) < 2:
        raise InputError("One sample has no neighbour. Give at least two.")
    same = _nearest(theirs) == _nearest(ours)
    return Score(
        metric=COSINE,
        value=float((theirs * ours).sum(1).mean()),
        count=len(ours),
        neighbours=100 * float(same.double().mean()),
        samples=len(ours),
        of=len(ours),
    )


def embeddings(model: nn.Module, data: Data, progress: Progress | None = None) -> Tensor:
    """Return the embedding of every sample, of length one, (N, d) in float64.

    It is the mean of the last hidden states over the tokens that `attention_mask` names, as in
    Reimers & Gurevych, Sentence-BERT (2019).

    Raises `InputError` when the network returns none.
    """
    embedded = partial(_embedded, model)
    found = run_over(model, data, _BATCH, embedded, task="evaluate", progress=progress or Silent())
    return nn.functional.normalize(torch.cat(found).cpu(), dim=1)


def _embedded(model: nn.Module, batch: Any) -> Tensor:
    outputs = model(**batch)
    states = getattr(outputs, "last_hidden_state", None)
    if not isinstance(states, Tensor) or states.ndim != 3:
        raise InputError(
            f"{type(model).__name__} returns no last_hidden_state (samples, tokens, d), so it has "
            "no embeddings to compare."
        )
    mask = batch.get("attention_mask")
    weights = torch.ones_like(states[:, :, 0]) if mask is None else mask.to(states)
    summed = (states * weights.unsqueeze(2)).sum(1)
    return (summed / weights.sum(1, keepdim=True)).double()


def _nearest(points: Tensor) -> Tensor:
    """Return the index of the nearest other point of each, (N,)."""
    nearest = []
    for start in range(0, len(points), 1000):
        near = points[start : start + 1000] @ points.T
        rows = torch.arange(len(near), device=near.device)
        near[rows, start + rows] = -torch.inf
        nearest.append(near.argmax(1))
    return torch.cat(nearest)
