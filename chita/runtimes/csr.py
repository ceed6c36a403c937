"""Linear layers with weights in PyTorch's sparse formats, each only where that is faster."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.runtimes.compare import difference
from chita.runtimes.inputs import Inputs, reference
from chita.runtimes.pytorch import opened
from chita.runtimes.runtime import Opened, Runtime
from chita.runtimes.timing import one_thread, side_by_side

DENSE, CSR = "dense", "csr"
_BLOCKS = (4, 16)
_FULLEST = 0.5  # share of the entries, or of blocks with one, above which a form is not tried
_MARGIN = 0.9  # share of the dense time that a sparse layer takes at most
_SECONDS = 0.5  # of measuring one layer
_LAYOUTS = (torch.sparse_csr, torch.sparse_bsr)


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """In which `form` a layer's weight is kept: dense, csr, bsr-4x4 or bsr-16x16.

    `seconds` are the medians measured, by form.
    """

    layer: str
    form: str
    seconds: dict[str, float]


@final
class CsrRuntime(Runtime):
    """PyTorch in eager mode, with sparse weights in linear layers where they were faster."""

    name = "torch-csr"

    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Opened:
        """The network, or with `sparse` a copy of it in the forms that were chosen."""
        if not sparse:
            return opened(copy.deepcopy(network), inputs)
        choices = choose(network, inputs)
        taken = [choice for choice in choices if choice.form != DENSE]
        note = f"{len(taken)} of {len(choices)} linear layers sparse"
        return opened(in_forms(network, choices), inputs, note)


def choose(network: nn.Module, inputs: Inputs, *, seconds: float = _SECONDS) -> tuple[Choice, ...]:
    """Return the fastest form of every linear layer, for inputs of this size on one thread.

    A sparse form is taken where it needs at most 90 per cent of the dense time; none is taken
    at all if the network as a whole is not faster with them, or does not give the same outputs.

    Args:
        network: on the CPU.
        inputs: an example: what is faster depends on the number of samples.
        seconds: for which a layer is measured.
    """
    with one_thread(), torch.no_grad():
        choices = tuple(
            _chosen(name, layer, given, seconds)
            for name, layer, given in _linear_layers(network, inputs)
        )
        if all(choice.form == DENSE for choice in choices) or _pays(network, inputs, choices):
            return choices
    return tuple(replace(choice, form=DENSE) for choice in choices)


def in_forms(network: nn.Module, choices: tuple[Choice, ...]) -> nn.Module:
    """Return a copy of a network with the weights of linear layers in the forms chosen."""
    changed = copy.deepcopy(network)
    for choice in choices:
        if choice.form != DENSE:
            layer: Any = changed.get_submodule(choice.layer)
            weight = _formed(layer.weight.detach(), choice.form)
            layer.weight = nn.Parameter(weight, requires_grad=False)
    return use_sparse(changed)


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
        """The layer's outputs (..., outputs) of inputs (..., inputs)."""
        columns = input.reshape(-1, self.in_features).t().contiguous()
        if self.bias is None:
            outputs = self.weight @ columns
        else:
            outputs = torch.addmm(self.bias.unsqueeze(1), self.weight, columns)
        return outputs.t().contiguous().view(*input.shape[:-1], self.out_features)


def _pays(network: nn.Module, inputs: Inputs, choices: tuple[Choice, ...]) -> bool:
    """Whether all choices together give the same outputs in less time."""
    dense = opened(copy.deepcopy(network), inputs)
    try:
        sparse = opened(in_forms(network, choices), inputs)
        # Called once more without the hooks of the first call, which change how some layers run.
        found = sparse.run(inputs)
    except Exception:  # noqa: BLE001 (a network that reads its weights itself may fail in any way)
        return False
    if not difference(reference(network, inputs), found).within():
        return False
    times = side_by_side({
        "dense": partial(dense.run, inputs),
        "sparse": partial(sparse.run, inputs),
    })
    return times["sparse"].median < times["dense"].median


def _chosen(name: str, layer: nn.Linear, given: Tensor, seconds: float) -> Choice:
    forms = (DENSE, *_candidates(layer.weight.detach()))
    if len(forms) == 1:
        return Choice(layer=name, form=DENSE, seconds={})
    holder = nn.ModuleDict({"layer": layer})
    layers = {f: in_forms(holder, (Choice(layer="layer", form=f, seconds={}),)) for f in forms}
    runs = {form: partial(made.get_submodule("layer"), given) for form, made in layers.items()}
    found = {form: timing.median for form, timing in side_by_side(runs, seconds).items()}
    best = min(found, key=lambda form: found[form])
    pays = found[best] <= _MARGIN * found[DENSE]
    return Choice(layer=name, form=best if pays else DENSE, seconds=found)


def _candidates(weight: Tensor) -> Iterator[str]:
    """Forms that could be faster than dense."""
    if weight.dtype not in (torch.float32, torch.float64):
        return
    if float((weight != 0).double().mean()) <= _FULLEST:
        yield CSR
    for size in _BLOCKS:
        rows, columns = weight.shape
        if rows % size == 0 and columns % size == 0:
            blocks = (weight != 0).view(rows // size, size, columns // size, size)
            if float(blocks.any(3).any(1).double().mean()) <= _FULLEST:
                yield f"bsr-{size}x{size}"


def _formed(weight: Tensor, form: str) -> Tensor:
    with _no_notes():
        if form == CSR:
            return weight.to_sparse_csr()
        size = int(form.partition("x")[2])
        return weight.to_sparse_bsr((size, size))


def _linear_layers(network: nn.Module, inputs: Inputs) -> list[tuple[str, nn.Linear, Tensor]]:
    """Linear layers whose weight is theirs alone, each with an input that it was called with."""
    owners: dict[int, int] = {}
    for _, tensor in network.named_parameters(remove_duplicate=False):
        owners[id(tensor)] = owners.get(id(tensor), 0) + 1
    seen: dict[str, tuple[nn.Linear, Tensor]] = {}
    handles = []
    for name, module in network.named_modules():
        if type(module) is nn.Linear and owners.get(id(module.weight)) == 1:

            def note(layer: nn.Linear, given: tuple[Tensor, ...], name: str = name) -> None:
                if given:  # not where it is called by keyword
                    seen.setdefault(name, (layer, given[0].detach().clone()))

            handles.append(module.register_forward_pre_hook(note))
    try:
        reference(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [(name, layer, given) for name, (layer, given) in seen.items()]


@contextmanager
def _no_notes() -> Iterator[None]:
    """Without the note that sparse formats are in a beta state."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta state.*")
        yield
