"""Layers as matrices: outputs first, whatever the module, and each with its share of a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from chita.collect.inputs import sees
from chita.constraints import Budget, Constraint, Divisible
from chita.errors import InputError
from chita.layout import Axes, Layout


@final
@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight as a layer's matrix: `name`, the `module` that owns it, its canonical layout.

    In `canonical`, one tensor, outputs come first: (outputs, inputs of a group, *kernel). `places`
    are where its flat entries lie in the weight, None where they lie as they are.
    """

    name: str
    module: nn.Module
    canonical: Layout
    places: Tensor | None

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
        return flat if self.places is None else flat[self.places]

    def given(self, canonical: Tensor) -> Tensor:
        """A canonical vector in the order of the weight."""
        if self.places is None:
            return canonical
        places = self.places.to(canonical.device)
        return torch.empty_like(canonical).index_copy_(0, places, canonical)


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
        places = None
        if axes.output != 0:
            turned = torch.arange(shape[0] * shape[1]).view(shape).T
            places, shape = turned.flatten(), tuple(turned.shape)
        canonical = Layout(
            names=(name,), shapes=(shape,), axes=(Axes(groups=axes.groups),), width=layout.width
        )
        found.append(Layer(name=name, module=module, canonical=canonical, places=places))
    if unfit:
        names = " ".join(f"--ignore {name.split(' ')[0]}" for name in unfit)
        raise InputError(
            "Layer by layer, linear layers and convolutions can be pruned. These are others: "
            f"{', '.join(unfit)}. Leave them out with {names}."
        )
    return found


def constraints_of(budget: Budget, layers: Sequence[Layer]) -> list[Constraint]:
    """Return the constraint of every layer: its share of the budget.

    Raises `InputError` when the budget cannot be met, or has no shares.
    """
    whole = Layout(
        names=tuple(layer.name for layer in layers),
        shapes=tuple(layer.canonical.shapes[0] for layer in layers),
        axes=tuple(layer.canonical.axes[0] for layer in layers),
        width=layers[0].canonical.width,
    )
    check_shares(budget)
    constraint = budget.bind(whole)
    if not isinstance(constraint, Divisible):
        raise _without_shares(budget)
    return constraint.split([torch.arange(part.start, part.stop) for part in whole.segments])


def check_shares(budget: Budget) -> None:
    """Raise `InputError` for a budget of operations, of which layers have no shares."""
    if budget.counts_operations:
        raise _without_shares(budget)


def _without_shares(budget: Budget) -> InputError:
    return InputError(
        f"Layer by layer, every layer has its share of the budget, and {type(budget).__name__} "
        "has none. Give sparsity, nnz, megabytes, pattern, blocks or per_layer."
    )
