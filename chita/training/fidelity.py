"""How alike what two networks make of the same samples is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.models.forward import failures_named
from chita.models.mode import evaluation_mode, state_kept
from chita.progress import Progress, Silent, track

_BATCH = 100


@final
@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How alike the embeddings of a network are to those of another.

    Fields: `cosine`, the mean over samples between the two; `neighbours`, the share of samples, in
    per cent, whose nearest other sample is the same for both, by cosine; `count`, of samples.
    """

    cosine: float
    neighbours: float
    count: int


def fidelity(
    dense: nn.Module, pruned: nn.Module, data: Data, progress: Progress | None = None
) -> Fidelity:
    """Return how alike two networks embed samples, dicts for `model(**batch)`.

    `progress` is told of every batch.

    Raises `InputError` when a network gives no embeddings, or there are fewer than two samples.
    """
    theirs, ours = (embeddings(model, data, progress) for model in (dense, pruned))
    if len(ours) < 2:
        raise InputError("One sample has no neighbour. Give at least two.")
    same = _nearest(theirs) == _nearest(ours)
    return Fidelity(
        cosine=float((theirs * ours).sum(1).mean()),
        neighbours=100 * float(same.double().mean()),
        count=len(ours),
    )


def embeddings(model: nn.Module, data: Data, progress: Progress | None = None) -> Tensor:
    """Return the embedding of every sample, of length one, (N, d) in float64.

    It is the mean of the last hidden states over the tokens that `attention_mask` names, as in
    Reimers & Gurevych, Sentence-BERT (2019).

    Raises `InputError` when the network returns none.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = []
    indexed = as_examples(data) or data
    size = len(indexed) if isinstance(indexed, Indexed) else 0  # batches do not tell
    with (
        track(progress or Silent(), "embed", size, "samples") as told,
        evaluation_mode(model),
        state_kept(model),
        torch.no_grad(),
    ):
        for batch in batches_of(data, _BATCH):
            copied = nested.map_tensors(lambda t: t.to(device, copy=True), batch)
            with failures_named(model, batch):
                found.append(_embedded(model, copied))
            told.advance(len(found[-1]))
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
    """The index of the nearest other point of each, (N,)."""
    nearest = []
    for start in range(0, len(points), 1000):
        near = points[start : start + 1000] @ points.T
        near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -torch.inf
        nearest.append(near.argmax(1))
    return torch.cat(nearest)
