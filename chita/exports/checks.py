"""Whether a file holds the network that was written: its zeros, its counts, its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from chita.errors import OutputError
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.compare import difference
from chita.runtimes.inputs import Inputs, reference
from chita.runtimes.runtime import FileRuntime

_OTHER_SIZE = 3  # samples that a file which takes any number of them is also tried with


def same_tensors(kind: Kind, tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise `OutputError` when tensors were not read back to the bit, or others are there."""
    if tensors.keys() != found.keys():
        raise _unlike(
            kind, f"tensors {sorted(tensors.keys() ^ found.keys())} differ in being there"
        )
    for name, tensor in tensors.items():
        read = found[name]
        alike = read.dtype == tensor.dtype and read.shape == tensor.shape
        if not alike or not torch.equal(_bits(read), _bits(tensor)):
            raise _unlike(kind, f"{name} was not read back as it was")


def verify_file(
    kind: Kind, runtime: FileRuntime, pruned: Pruned, path: Path, *, any_size: bool
) -> Checked:
    """Run a file and look into it, with two numbers of samples where it takes any.

    Its outputs must be those of the network within the runtime's tolerance, and every masked
    tensor must be stored with all its zeros and with as many values that are not zero.

    Raises `OutputError` where that is not so.
    """
    network, inputs = pruned.called()
    run = runtime.load(path, inputs)
    expected = reference(network, inputs)
    gap = _outputs(kind, run(inputs), expected, inputs, runtime.tolerance)
    if any_size:
        other = inputs.resized(_OTHER_SIZE if inputs.samples != _OTHER_SIZE else 2)
        again = _outputs(kind, run(other), reference(network, other), other, runtime.tolerance)
        gap = max(gap, again)
    nnz = check_zeros(kind, pruned, runtime.constants(path), exact=runtime.tells_exactly)
    notes = () if any_size else (f"takes batches of {inputs.samples}, no others",)
    return Checked(nnz=nnz, difference=gap, notes=notes)


def _outputs(
    kind: Kind,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    inputs: Inputs,
    tolerance: float,
) -> float:
    gap = difference(expected, found)
    if not gap.within(tolerance):
        raise _unlike(
            kind,
            f"{gap.output} differs by {gap.value:.2g} of its largest value with batches of "
            f"{inputs.samples}, where {tolerance:g} is the most",
        )
    return gap.value


def check_zeros(
    kind: Kind, pruned: Pruned, constants: Iterable[tuple[str, Tensor]], *, exact: bool
) -> int:
    """Return how many values of the masked tensors are not zero in a file.

    A tensor is found by its size and by its zeros: converters rename, transpose and scale. Without
    `exact`, values that are very small may be told as zeros.

    Raises `OutputError` when a tensor is nowhere with all its zeros, or has lost values.
    """
    kept = pruned.kept()
    sizes = {mask.numel() for mask in kept.values()}
    stored: dict[int, list[tuple[str, Tensor]]] = {}
    for name, values in constants:
        if values.numel() in sizes:
            stored.setdefault(values.numel(), []).append((name, values != 0))
    total = 0
    for name, mask in kept.items():
        found = _stored_as(name, mask, stored.get(mask.numel(), []))
        if found is None:
            raise _unlike(kind, f"{name} is nowhere in it with its zeros")
        lost = (mask & ~found).flatten(1).any(1) if mask.ndim > 1 else mask & ~found
        whole = found.flatten(1).any(1) if mask.ndim > 1 else found
        if exact and bool((lost & whole).any()):  # a norm's scale of zero may take a whole output
            raise _unlike(kind, f"{name} has lost values in {int((lost & whole).sum())} outputs")
        total += int(torch.count_nonzero(found))
    return total


def _stored_as(name: str, mask: Tensor, stored: list[tuple[str, Tensor]]) -> Tensor | None:
    """Where a tensor is not zero in a file, as there is one with all its zeros."""
    likely = sorted(stored, key=lambda entry: (entry[0] != name, -int(entry[1].sum())))
    for _, present in likely:
        for found in _arranged(present, mask):
            if not bool((found & ~mask).any()):
                return found
    return None


def _arranged(present: Tensor, mask: Tensor) -> Iterator[Tensor]:
    yield present.reshape(mask.shape)
    if mask.ndim > 1:
        turned = mask.transpose(0, 1)
        yield present.reshape(turned.shape).transpose(0, 1)


def _bits(tensor: Tensor) -> Tensor:
    whole = tensor.contiguous().reshape(-1)
    return whole.view(torch.uint8) if whole.numel() else whole


def _unlike(kind: Kind, fault: str) -> OutputError:
    return OutputError(
        f"The {kind.name} file is not the network: {fault}. It was not kept. Export as dense or "
        "sparse, which hold the very tensors."
    )
