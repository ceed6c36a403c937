"""Checks that a file holds the network that was written: its zeros, its counts, its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.errors import OutputError
from chita.exports.kind import Checked, Kind, Pruned
from chita.models.targets import decide
from chita.runtimes.compare import TOLERANCE, difference
from chita.runtimes.inputs import Inputs, reference
from chita.runtimes.runtime import FileRuntime

_SMALL = 1e-3  # of the largest value: what is smaller may be read as zero
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
    gap = same_outputs(kind, run(inputs), expected, inputs, runtime.tolerance)
    if any_size:
        other = inputs.varied(_OTHER_SIZE if inputs.samples != _OTHER_SIZE else 2)
        again = same_outputs(kind, run(other), reference(network, other), other, runtime.tolerance)
        gap = max(gap, again)
    nnz, notes = check_zeros(kind, pruned, runtime.constants(path), exact=runtime.exact_constants)
    if not any_size:
        notes = (f"takes batches of {inputs.samples}, no others", *notes)
    return Checked(nnz=nnz, difference=gap, notes=notes)


def same_outputs(
    kind: Kind,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    inputs: Inputs,
    tolerance: float = TOLERANCE,
) -> float:
    """Return by how much the outputs for inputs differ; `OutputError` beyond the tolerance."""
    gap = difference(expected, found)
    if not gap.within(tolerance):
        raise _unlike(
            kind,
            f"{gap.output} differs by {gap.value:.2g} with batches of {inputs.samples}, where "
            f"{tolerance:g} is the most{f' ({gap.reason})' if gap.reason else ''}",
        )
    return gap.value


def check_zeros(
    kind: Kind, pruned: Pruned, constants: Iterable[tuple[str, Tensor]], *, exact: bool
) -> tuple[int, tuple[str, ...]]:
    """Return how many values of the masked tensors are not zero in a file, and notes.

    A tensor is found by its size and by its zeros, since converters rename, transpose, scale and
    part it by groups; one that is rearranged otherwise, only by its count. Without `exact`, values
    that are very small may be read as zeros.

    Raises `OutputError` when a tensor is nowhere with all its zeros, or has lost values. A norm
    that is folded in may take outputs whole, by scales of zero.
    """
    network = pruned.called()[0]
    groups = {d.role.name: d.role.axes.groups for d in decide(network)}
    stored: dict[int, list[tuple[str, Tensor]]] = {}
    for name, values in constants:
        stored.setdefault(values.numel(), []).append((name, values != 0))
    total, counted = 0, []
    for name in pruned.masks:
        mask = pruned.tensors[name] != 0
        found = _stored_as(name, mask, stored)
        if found is None and groups.get(name, 1) > 1:
            parts = [_stored_as(name, part, stored) for part in mask.chunk(groups[name])]
            present = [part for part in parts if part is not None]
            found = torch.cat(present) if len(present) == len(parts) else None
        if found is None and _has_count(mask, stored):
            found = mask
            counted.append(name)
        if found is None:
            raise _unlike(kind, f"{name} is nowhere in it with its zeros")
        _check_lost(kind, network, name, pruned.tensors[name], found, exact=exact)
        total += int(torch.count_nonzero(found))
    notes = [f"{', '.join(counted)}: rearranged, and checked only by count"] if counted else []
    unseen = pruned.nnz_in(pruned.tensors) - total
    if unseen and not exact:
        notes.append(f"{unseen:,} values are so small that they are zeros in it")
    return total, tuple(notes)


def _check_lost(
    kind: Kind, network: nn.Module, name: str, tensor: Tensor, found: Tensor, *, exact: bool
) -> None:
    """Raise `OutputError` where values are zero in a file and were not, but for whole outputs."""
    lost = (tensor != 0) & ~found
    if not exact:
        lost &= tensor.abs() > _SMALL * tensor.abs().max()
    outputs = (lost.reshape(len(lost), -1).any(1), found.reshape(len(found), -1).any(1))
    broken = int((outputs[0] & outputs[1]).sum())
    gone = int((outputs[0] & ~outputs[1]).sum())
    scales = [t for n, t in network.named_parameters() if n.rpartition(".")[2] == "weight"]
    folded = [int(torch.count_nonzero(t == 0)) for t in scales if t.shape == (len(lost),)]
    if broken or gone > max(folded, default=0):
        raise _unlike(kind, f"{name} has lost values in {broken + gone} outputs")


def _has_count(mask: Tensor, stored: Mapping[int, list[tuple[str, Tensor]]]) -> bool:
    wanted = int(torch.count_nonzero(mask))
    return any(int(present.sum()) == wanted for _, present in stored.get(mask.numel(), []))


def _stored_as(
    name: str, mask: Tensor, stored: Mapping[int, list[tuple[str, Tensor]]]
) -> Tensor | None:
    """Find a stored tensor with all zeros of a mask; return its entries that are not zero."""
    entries = stored.get(mask.numel(), [])
    likely = sorted(entries, key=lambda entry: (entry[0] != name, -int(entry[1].sum())))
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
