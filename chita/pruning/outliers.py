"""Shares of outliers, by unit of a network: what OWL spreads sparsity by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from chita import nested
from chita.collect.inputs import InputGrams
from chita.models.units import Unit
from chita.progress import Progress, Silent, track
from chita.pruning.layers import Layer

OUTLYING = 5.0
"""Times the mean above which a weight's |w| ‖x‖ is an outlier, the M of Yin et al. (2024)."""


def outlier_shares(
    layers: Mapping[str, Layer],
    units: Sequence[Unit],
    run: Callable[[Any], object],
    batches: Sequence[Any],
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return by name the share of outliers of the unit that each tensor lies in.

    A weight is one where |w_ij| times the root mean square of its input is above 5 times the mean
    of these over all weights of the unit. Layers that see nothing have none.

    Args:
        layers: by name.
        units: which hold them.
        run: calls the network on a batch.
        batches: of calibration data; all are run once, through the whole dense network.
        progress: told of every batch.
    """
    seen = InputGrams({name: layer.module for name, layer in layers.items()}, diagonal=True)
    with (
        seen.watching(),
        torch.no_grad(),
        track(progress or Silent(), "outliers", len(batches), "batches") as told,
    ):
        for batch in batches:
            run(nested.map_tensors(torch.clone, batch))
            told.advance(1)
    found: dict[str, float] = {}
    for unit in units:
        scores = []
        for name in unit.tensors:
            layer, squares = layers[name], seen.of(name)
            weight = layer.module.get_parameter("weight").detach().flatten()
            shape = (layer.groups, layer.outputs, -1)
            size = layer.taken(weight).abs().double().view(shape)
            norms = squares.gram.sqrt().unsqueeze(1) if squares.count else torch.zeros(1, 1, 1)
            scores.append((size * norms.to(size.device)).flatten())
        whole = torch.cat(scores)
        share = float((whole > OUTLYING * whole.mean()).double().mean())
        found.update(dict.fromkeys(unit.tensors, share))
    return found
