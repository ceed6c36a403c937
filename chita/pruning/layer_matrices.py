"""Layers as matrices: outputs first, whatever the module, and each with its share of a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.cost import Cost
from chita.collect.inputs import InputGrams, sees
from chita.constraints import Budget, ByOutliers, Constraint, Divisible, Searched
from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.machine import EFFICIENCY, LOADED_LATER, resident_memory, speed
from chita.models.blocks import NetworkBlock, holders, network_blocks
from chita.progress import Progress, Silent, track
from chita.solvers import Solver

_COPIES = 6  # of the largest Gram, in a solve
_PASSES = 2  # of every block: one for its Grams, one for what it gives

OUTLYING = 5.0
"""Times the mean above which a weight's |w| ‖x‖ is an outlier, the M of Yin et al. (2024)."""


@final
@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight as a layer's matrix: `name`, the `modules` that multiply by it, its own layout.

    Several layers may hold one weight. In `canonical`, one tensor, outputs come first: (outputs,
    inputs of a group, *kernel). `turned` marks a matrix that is stored with its inputs first.
    """

    name: str
    modules: tuple[nn.Module, ...]
    canonical: Layout
    turned: bool

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.canonical.axes[0].groups

    @property
    def outputs(self) -> int:
        """Number of outputs of a group."""
        return self.canonical.shapes[0][0] // self.groups

    def taken(self, flat: Tensor) -> Tensor:
        """A flat weight in canonical order."""
        outputs, *inputs = self.canonical.shapes[0]
        return flat.view(*inputs, outputs).T.flatten() if self.turned else flat

    def given(self, canonical: Tensor) -> Tensor:
        """A canonical vector in the order of the weight."""
        return canonical.view(self.canonical.shapes[0]).T.flatten() if self.turned else canonical


def layers_of(model: nn.Module, layout: Layout) -> list[Layer]:
    """Return the layers of a layout.

    Raises `InputError` that lists those whose outputs are no products with inputs that they see.
    """
    found, unfit = [], []
    for name, shape, axes in zip(layout.names, layout.shapes, layout.axes, strict=True):
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        modules = map(model.get_submodule, holders(model, name))
        seeing = tuple(module for module in modules if sees(module, attribute))
        if not sees(module, attribute):
            unfit.append(f"{name} ({type(module).__name__})")
            continue
        turned = axes.output != 0
        canonical = Layout(
            names=(name,),
            shapes=(shape[::-1] if turned else shape,),
            axes=(Axes(groups=axes.groups),),
            width=layout.width,
        )
        found.append(Layer(name=name, modules=seeing, canonical=canonical, turned=turned))
    if unfit:
        names = ", ".join(name.split(" ")[0] for name in unfit)
        raise InputError(
            "Layer by layer, linear layers and convolutions can be pruned. These are others: "
            f"{', '.join(unfit)}. Leave them out with `ignore`: {names}."
        )
    return found


def constraints_of(budget: Budget, layers: Sequence[Layer]) -> list[Callable[[], Constraint]]:
    """Return what makes the constraint of every layer: its share of the budget.

    Made when a layer is pruned, so that no more than one layer's index sets are in memory.

    Raises `InputError` when the budget cannot be met, or has no shares.
    """
    whole = Layout(
        names=tuple(layer.name for layer in layers),
        shapes=tuple(layer.canonical.shapes[0] for layer in layers),
        axes=tuple(layer.canonical.axes[0] for layer in layers),
        width=layers[0].canonical.width,
    )
    check_shares(budget)
    if budget.local:
        try:
            for layer in layers:
                budget.bind(layer.canonical)
        except InputError:
            budget.bind(whole)  # its error names all layers at once
        return [partial(budget.bind, layer.canonical) for layer in layers]
    constraint = budget.bind(whole)
    if not isinstance(constraint, Divisible):
        raise _without_shares(budget)
    split = constraint.split([range(part.start, part.stop) for part in whole.segments])
    return [lambda share=share: share for share in split]  # type: ignore[misc]


def check_layers(budget: Budget, layers: Sequence[Layer]) -> None:
    """Raise `InputError` when layers cannot have their shares of a budget, before any is pruned."""
    if isinstance(budget, ByOutliers):  # what is measured later is alike for all here
        budget = replace(budget, shares={layer.name: 0.0 for layer in layers})
    constraints_of(budget, layers)


def check_shares(budget: Budget) -> None:
    """Raise `InputError` for a budget of operations or a search, of which layers have no shares."""
    if budget.counts_operations:
        raise _without_shares(budget)
    if isinstance(budget, Searched) and budget.levels is None:
        raise InputError(
            "Layer by layer, what levels of a tensor cost is not measured. Give `per_layer` a "
            "table of levels and losses, or set `layerwise` to False."
        )


def _without_shares(budget: Budget) -> InputError:
    return InputError(
        f"Layer by layer, every layer has its share of the budget, and {type(budget).__name__} "
        "has none. Give `sparsity`, `nnz`, `megabytes`, `pattern`, `blocks` or `per_layer`."
    )


def outlier_shares(
    layers: Mapping[str, Layer],
    blocks: Sequence[NetworkBlock],
    call: Callable[[Any], object],
    batches: Sequence[Any],
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return by name the share of outliers of the block that each tensor lies in.

    A weight is one where |w_ij| times the root mean square of its input is above 5 times the mean
    of these over all weights of the block. Layers that see nothing have none.

    Args:
        layers: by name.
        blocks: which hold them.
        call: runs the network on a batch.
        batches: of calibration data; all are run once, through the whole dense network.
        progress: receives every batch.
    """
    seen = InputGrams({name: layer.modules for name, layer in layers.items()}, diagonal=True)
    with (
        seen.watching(),
        torch.no_grad(),
        track(progress or Silent(), "outliers", len(batches), "batches") as shown,
    ):
        for batch in batches:
            call(nested.copied(batch))
            shown.advance(1)
    found: dict[str, float] = {}
    for block in blocks:
        scores = []
        for name in block.tensors:
            layer, squares = layers[name], seen.of(name)
            weight = layer.modules[0].get_parameter("weight").detach().flatten()
            shape = (layer.groups, layer.outputs, -1)
            size = layer.taken(weight).abs().double().view(shape)
            seen_none = squares.gram.new_zeros(1, 1, 1)
            norms = squares.gram.sqrt().unsqueeze(1) if squares.count else seen_none
            scores.append((size * norms.to(size.device)).flatten())
        whole = torch.cat(scores)
        share = float((whole > OUTLYING * whole.mean()).double().mean())
        found.update(dict.fromkeys(block.tensors, share))
    return found


def gram_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of a Gram matrix in float64, of one group of a convolution."""
    return 8 * math.prod(shape[1:]) ** 2


def layers_cost(
    model: nn.Module, layout: Layout, solver: Solver, cost: Cost | None, samples: int, times: int
) -> dict[str, Any]:
    """Return the fields of a `Plan` for memory, and for the time of so many runs.

    Memory is that of the Grams of one block and of the largest solve, without activations, which
    `max_memory` bounds. Raises `InputError` as `layers_of` does.
    """
    layers = {layer.name: layer for layer in layers_of(model, layout)}
    blocks = network_blocks(model, layout.names)
    grams = max(sum(_gram_bytes(layers[name]) for name in block.tensors) for block in blocks)
    largest = max(
        _COPIES * _gram_bytes(layer) + 64 * layer.canonical.size for layer in layers.values()
    )
    copied = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    machine = speed()
    collect = None
    if cost is not None:
        collect = _PASSES * cost.flops * samples / (EFFICIENCY * machine.flops)
    seconds = 0.0
    for layer in layers.values():
        width = layer.canonical.size // (layer.groups * layer.outputs)
        product = 2 * layer.canonical.size * width / machine.flops
        system = layer.groups * width**3 / (machine.flops / 4)
        seconds += solver.effort.streams * product + solver.effort.systems * system
    return {
        "samples": samples,
        "gradient_bytes": grams,
        "peak_bytes": int(resident_memory() + LOADED_LATER + copied + grams + largest),
        "collect_seconds": None if collect is None else times * collect,
        "solve_seconds": times * seconds,
    }


def _gram_bytes(layer: Layer) -> int:
    width = layer.canonical.size // (layer.groups * layer.outputs)
    return 8 * layer.groups * width**2
