"""Layers as matrices: outputs first, whatever the module, and each with its share of a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from torch import Tensor, nn

from chita.collect.inputs import sees
from chita.constraints import Budget, ByOutliers, Constraint, Divisible, Searched
from chita.errors import InputError
from chita.layout import Axes, Layout


@final
@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight as a layer's matrix: `name`, the `module` that owns it, its canonical layout.

    In `canonical`, one tensor, outputs come first: (outputs, inputs of a group, *kernel). `turned`
    tells of a matrix that is stored with its inputs first.
    """

    name: str
    module: nn.Module
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
        found.append(Layer(name=name, module=module, canonical=canonical, turned=turned))
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
            budget.bind(whole)  # tells of all layers at once
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
