"""What pruning layer by layer would cost, from sizes."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from chita.collect.cost import Cost
from chita.layout import Layout
from chita.machine import resident_memory, speed
from chita.models.units import units_of
from chita.pruning.layers import Layer, layers_of
from chita.solvers import Solver

_LOADED_LATER = 30e6  # bytes of code that PyTorch loads when it is first used
_EFFICIENCY = 0.16  # of a network's layers beside large matrix products
_COPIES = 6  # of the largest Gram, in a solve
_PASSES = 2  # of every unit: one for its Grams, one for what it gives


def gram_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of the Gram matrix of a linear layer or of one group of a convolution, in float64."""
    return 8 * math.prod(shape[1:]) ** 2


def layers_plan(
    model: nn.Module, layout: Layout, solver: Solver, cost: Cost | None, samples: int, times: int
) -> dict[str, Any]:
    """Return the fields of a `Plan` that tell of memory, and of the time of so many runs.

    Memory is that of the Grams of one unit and of the largest solve, without activations, which
    `max_memory` bounds. Raises `InputError` as `layers_of` does.
    """
    layers = {layer.name: layer for layer in layers_of(model, layout)}
    units = units_of(model, layout.names)
    unit = max(sum(_gram(layers[name]) for name in unit.tensors) for unit in units)
    largest = max(_COPIES * _gram(layer) + 64 * layer.canonical.size for layer in layers.values())
    copied = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    machine = speed()
    collect = None
    if cost is not None:
        collect = _PASSES * cost.flops * samples / (_EFFICIENCY * machine.flops)
    seconds = 0.0
    for layer in layers.values():
        width = layer.canonical.size // (layer.groups * layer.outputs)
        product = 2 * layer.canonical.size * width / machine.flops
        system = layer.groups * width**3 / (machine.flops / 4)
        seconds += solver.effort.streams * product + solver.effort.systems * system
    return {
        "rows": samples,
        "row_bytes": unit,
        "peak_bytes": int(resident_memory() + _LOADED_LATER + copied + unit + largest),
        "collect_seconds": None if collect is None else times * collect,
        "solve_seconds": times * seconds,
    }


def _gram(layer: Layer) -> int:
    width = layer.canonical.size // (layer.groups * layer.outputs)
    return 8 * layer.groups * width**2
