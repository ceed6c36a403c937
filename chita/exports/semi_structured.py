"""2:4 weights in the format that sparse tensor cores of GPUs read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.errors import InputError
from chita.exports.checks import same_outputs
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.copying import tensors_of
from chita.runtimes.inputs import reference

_CAPABILITY = (8, 0)  # of the first GPUs with sparse tensor cores
_TYPE = torch.float16
_TOLERANCE = 2e-2  # of outputs in half precision
_MULTIPLE = 64  # of both sizes of a weight in that type: torch.sparse.SparseSemiStructuredTensor


@final
class SemiStructured(Kind):
    """A state dict in float16 whose 2:4 linear weights are compressed."""

    name = "semi-structured"
    suffix = ".pt"
    about = "2:4 linear weights for sparse tensor cores, float16; needs such a GPU to be written"

    def check(self) -> None:
        """There must be a GPU with sparse tensor cores."""
        if not torch.cuda.is_available():
            raise InputError(
                "semi-structured needs a GPU of NVIDIA with sparse tensor cores (Ampere or newer), "
                "and PyTorch sees no GPU here. Export as dense or sparse, and again on a machine "
                "with one."
            )
        if torch.cuda.get_device_capability() < _CAPABILITY:
            raise InputError(
                f"semi-structured needs sparse tensor cores (Ampere or newer); "
                f"{torch.cuda.get_device_name()} has none. Export as dense or sparse."
            )

    def check_fit(self, pruned: Pruned) -> None:
        """At least one linear layer must be 2:4 and of fitting sizes."""
        if not _fitting(pruned.called()[0]):
            raise InputError(
                "No linear layer has at most two values in every four along its inputs, and sizes "
                f"that are multiples of {_MULTIPLE}. Prune with `pattern` 2:4, or export as sparse."
            )

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Compress on the GPU; the file read again must give the outputs of half precision."""
        network, inputs = pruned.called()
        layers = _fitting(network)
        half: Any = copy.deepcopy(network).to("cuda", _TYPE)
        on_gpu = inputs.mapped(lambda t: t.to("cuda", _TYPE if t.is_floating_point() else t.dtype))
        expected = reference(network, inputs)
        for name in layers:
            layer: Any = half.get_submodule(name)
            weight = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
            layer.weight = nn.Parameter(weight, requires_grad=False)
        torch.save(tensors_of(half), path)
        with torch.serialization.safe_globals([type(weight)]):
            read: dict[str, Tensor] = torch.load(path, weights_only=True)
        again: Any = copy.deepcopy(network).to("cuda", _TYPE)
        again.load_state_dict(read, assign=True)
        found = {n: t.cpu() for n, t in reference(again, on_gpu).items()}
        gap = same_outputs(found, expected, inputs, _TOLERANCE)
        nnz = pruned.nnz_in({name: read[name].to_dense() for name in pruned.masks})
        lost = pruned.nnz_in(pruned.tensors) - nnz
        note = f"{len(layers)} linear layers are 2:4, in float16: {', '.join(layers)}"
        notes = (note, f"{lost:,} values are too small for float16") if lost else (note,)
        return Checked(nnz=nnz, difference=gap, notes=notes)


def _fitting(network: nn.Module) -> list[str]:
    """Names of the linear layers that sparse tensor cores can take."""
    return [
        name
        for name, module in network.named_modules()
        if type(module) is nn.Linear
        and all(size % _MULTIPLE == 0 for size in module.weight.shape)
        and int((module.weight.detach().reshape(-1, 4) != 0).sum(1).max()) <= 2
    ]
