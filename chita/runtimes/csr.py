"""Linear layers with weights in PyTorch's sparse formats, each only if that is faster."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.runtimes.compare import difference
from chita.runtimes.inputs import Inputs, reference
from chita.runtimes.layers import first_inputs
from chita.runtimes.pytorch import loaded
from chita.runtimes.runtime import Loaded, Runtime
from chita.runtimes.timing import one_thread, side_by_side

DENSE, CSR = "dense", "csr"
_BLOCKS = {CSR: 1, "bsr-4x4": 4, "bsr-16x16": 16}  # rows and columns of a block, by form
_FULLEST = 0.5  # share of blocks that are not zero above which a form is not tried
_MARGIN = 0.9  # share of the dense time that a sparse layer takes at most
_SECONDS = 0.5  # of measuring one layer
_LAYOUTS = (torch.sparse_csr, torch.sparse_bsr)


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """The `form` of a layer's weight: dense, csr, bsr-4x4 or bsr-16x16.

    `seconds` are the medians measured, by form.
    """

    layer: str
    form: str
    seconds: dict[str, float]


@final
class CsrRuntime(Runtime):
    """PyTorch in eager mode, with sparse weights in linear layers where they were faster."""

    name = "torch-csr"

    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Loaded:
        """Return a copy of the network, with `sparse` in the forms that were chosen."""
        if not sparse:
            return loaded(copy.deepcopy(network), inputs)
        choices = choose(network, inputs)
        taken = [choice for choice in choices if choice.form != DENSE]
        note = f"{len(taken)} of {len(choices)} linear layers sparse"
        return loaded(in_forms(network, choices), inputs, note)


def choose(network: nn.Module, inputs: Inputs) -> tuple[Choice, ...]:
    """Return the fastest form of every linear layer, for inputs of this size on one thread.

    A sparse form is taken if it needs at most 90 per cent of the dense time. None is taken at
    all if the network as a whole is not faster with them, or does not give the same outputs.

    Args:
        network: on the CPU.
        inputs: an example: what is faster depends on the number of samples.
    """
    with one_thread(), torch.no_grad():
        choices = tuple(starmap(_chosen, _linear_layers(network, inputs)))
        if all(choice.form == DENSE for choice in choices) or _pays(network, inputs, choices):
            return choices
    return tuple(replace(choice, form=DENSE) for choice in choices)


def in_forms(network: nn.Module, choices: tuple[Choice, ...]) -> nn.Module:
    """Return a copy of a network with the weights of linear layers in the forms chosen."""
    changed = copy.deepcopy(network)
    for choice in choices:
        if choice.form != DENSE:
            _convert(changed.get_submodule(choice.layer), choice.form)
    return changed


def use_sparse(network: nn.Module) -> nn.Module:
    """Let linear layers whose weight is sparse compute as `SparseLinear` does; return the network.

    They give the same without, but more slowly. What is not a linear layer, or is dense, stays.

    >>> type(use_sparse(nn.Linear(2, 2))).__name__
    'Linear'
    """
    for module in network.modules():
        if type(module) is nn.Linear and module.weight.layout in _LAYOUTS:
            module.__class__ = SparseLinear
    return network


class SparseLinear(nn.Linear):
    """A linear layer whose weight (outputs, inputs) is CSR or BSR.

    It multiplies W Xᵀ, where `nn.Linear` multiplies X Wᵀ: the library of sparse products takes
    its way over rows of W, several times faster.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that nn.Linear gives it)
        """Return the outputs (..., outputs) of inputs (..., inputs)."""
        columns = input.reshape(-1, self.in_features).t().contiguous()
        if self.bias is None:
            outputs = self.weight @ columns
        else:
            outputs = torch.addmm(self.bias.unsqueeze(1), self.weight, columns)
        return outputs.t().contiguous().view(*input.shape[:-1], self.out_features)


def _pays(network: nn.Module, inputs: Inputs, choices: tuple[Choice, ...]) -> bool:
    """Return True if all choices together give the same outputs in less time."""
    dense = loaded(copy.deepcopy(network), inputs)
    try:
        sparse = loaded(in_forms(network, choices), inputs)
        # Called once more without the hooks of the first call, which change how some layers run.
        found = sparse.run(inputs)
    except Exception:  # noqa: BLE001 (a network that reads its weights itself may fail in any way)
        return False
    if not difference(reference(network, inputs), found).within():
        return False
    runs = {"dense": partial(dense.run, inputs), "sparse": partial(sparse.run, inputs)}
    times = side_by_side(runs)
    return times["sparse"].median < times["dense"].median


def _chosen(name: str, layer: nn.Linear, given: Tensor) -> Choice:
    forms = list(_candidates(layer.weight.detach()))
    if not forms:
        return Choice(layer=name, form=DENSE, seconds={})
    layers = {form: _convert(copy.deepcopy(layer), form) for form in forms}
    runs = {form: partial(made, given) for form, made in {DENSE: layer, **layers}.items()}
    found = {form: timing.median for form, timing in side_by_side(runs, _SECONDS).items()}
    best = min(found, key=lambda form: found[form])
    pays = found[best] <= _MARGIN * found[DENSE]
    return Choice(layer=name, form=best if pays else DENSE, seconds=found)


def _candidates(weight: Tensor) -> Iterator[str]:
    """Yield the forms that could be faster than dense."""
    if weight.dtype not in (torch.float32, torch.float64):
        return
    rows, columns = weight.shape
    for form, size in _BLOCKS.items():
        if rows % size == 0 and columns % size == 0:
            blocks = (weight != 0).view(rows // size, size, columns // size, size)
            if float(blocks.any(3).any(1).double().mean()) <= _FULLEST:
                yield form


def _convert(layer: nn.Module, form: str) -> nn.Module:
    """Give a linear layer its weight in a sparse form; return the layer."""
    weight = layer.get_parameter("weight").detach()
    # PyTorch warns that sparse formats are in a beta state.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        if form == CSR:
            formed = weight.to_sparse_csr()
        else:
            formed = weight.to_sparse_bsr((_BLOCKS[form], _BLOCKS[form]))
    layer.weight = nn.Parameter(formed, requires_grad=False)
    return use_sparse(layer)


def _linear_layers(network: nn.Module, inputs: Inputs) -> list[tuple[str, nn.Linear, Tensor]]:
    """Return linear layers that share no weight, each with an input that it was called with."""
    owners = Counter(id(t) for _, t in network.named_parameters(remove_duplicate=False))
    layers = {
        name: module
        for name, module in network.named_modules()
        if type(module) is nn.Linear and owners[id(module.weight)] == 1
    }
    seen = first_inputs(network, inputs, layers)
    return [(name, layers[name], given) for name, given in seen.items()]
