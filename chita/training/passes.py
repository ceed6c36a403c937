"""Passes over data that leave a network as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from chita import nested
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import as_examples
from chita.models.forward import failures_named
from chita.models.mode import inference
from chita.progress import Progress, track

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

    In eval mode, without gradients, on the network's device; the buffers are kept. `progress` gets
    the samples of a `task`.

    Raises `InputError` that names the module in which `use` fails.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    indexed = as_examples(data) or data
    results = []
    samples = len(indexed) if isinstance(indexed, Indexed) else 0  # batches do not say
    with track(progress, task, samples, "samples") as shown, inference(model):
        for batch in batches_of(indexed, size):
            # Copied, since a network may write into it.
            copied = nested.map_tensors(lambda t: t.to(device, copy=True), batch)
            with failures_named(model, batch):
                results.append(use(copied))
            shown.advance(nested.count(batch) or 1)
    return results
