"""Passes over data that leave a network as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from chita import nested
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples, as_examples, size_of
from chita.models.forward import failures_named
from chita.models.mode import inference
from chita.progress import Progress, track
from chita.training.together import Together

_Made = TypeVar("_Made")


def run_over(
    model: nn.Module,
    data: Data,
    size: int,
    use: Callable[[Any], _Made],
    *,
    task: str,
    progress: Progress,
) -> list[_Made]:
    """Return what `use`, which runs the network, makes of every batch of at most `size` samples.

    In eval mode, without gradients, on the network's device; the buffers are kept. Batches are
    smaller, and those of a loader cut, where memory asks for that (`Together`). `progress` gets the
    samples of a `task`.

    Raises `InputError` that names the module in which `use` fails.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    indexed = as_examples(data) or data

    def used(batch: Any) -> _Made:
        # Copied, since a network may write into it.
        copied = nested.copied(batch, lambda t: t.to(device, copy=True))
        with failures_named(model, batch):
            return use(copied)

    known = isinstance(indexed, Indexed)
    samples = len(indexed) if isinstance(indexed, Indexed) else 0  # batches do not say
    together = Together(model, used, most=size if known else None)
    results = []
    with track(progress, task, samples, "samples") as shown, inference(model):
        if isinstance(indexed, Indexed) and not isinstance(indexed, Examples):  # read as they run
            size = together.size(
                indexed.take(torch.zeros(1, dtype=torch.int64, device="cpu")).batch
            )
        for batch in batches_of(indexed, size):
            for part, made in together.each(batch, used):
                results.append(made)
                shown.advance(size_of(part))
    return results
