"""Checks of zeros, counts, tensors and outputs: that a file holds the network that was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from chita.errors import CheckpointError
from chita.exports.kind import Pruned
from chita.models.targets import decide
from chita.runtimes.compare import TOLERANCE, difference
from chita.runtimes.inputs import Inputs

_SMALL = 1e-3  # of the largest value: what is smaller may be read as zero


class Unlike(Exception):
    """What was written is not the network, and why."""


def refilled(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield, for each tensor, how many removed weights are not zero, if any.

    Raises `CheckpointError` on tensors that are missing or of another shape.
    """
    missing = [name for name in masks if name not in tensors]
    if missing:
        raise CheckpointError(
            f"There are masks of {', '.join(missing)}, but no such tensors. Give a checkpoint of "
            "the network that was pruned."
        )
    for name, mask in masks.items():
        tensor = tensors[name]
        if tensor.shape != mask.shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(tensor.shape)} and its mask {tuple(mask.shape)}. "
                "Give a checkpoint of the network that was pruned."
            )
        found = int(torch.count_nonzero(tensor[~mask]))
        if found:
            removed = int((~mask).sum())
            yield f"{name}: {found:,} of {removed:,} removed weights are not zero"


def same_tensors(tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise `Unlike` when tensors were not read back to the bit, or others are there."""
    if tensors.keys() != found.keys():
        raise Unlike(f"tensors {sorted(tensors.keys() ^ found.keys())} differ in being there")
    for name, tensor in tensors.items():
        read = found[name]
        alike = read.dtype == tensor.dtype and read.shape == tensor.shape
        if not alike or not torch.equal(_bytes(read), _bytes(tensor)):
            raise Unlike(f"{name} was not read back as it was")


def same_outputs(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    inputs: Inputs,
    tolerance: float = TOLERANCE,
) -> float:
    """Return by how much the outputs for inputs differ; `Unlike` beyond the tolerance."""
    gap = difference(expected, found)
    if not gap.within(tolerance):
        raise Unlike(
            f"{gap.output} differs by {gap.value:.2g} with batches of {inputs.samples}, where "
            f"{tolerance:g} is the most{f' ({gap.reason})' if gap.reason else ''}"
        )
    return gap.value


def check_zeros(
    pruned: Pruned, constants: Iterable[tuple[str, Tensor]], *, exact: bool
) -> tuple[int, tuple[str, ...]]:
    """Return how many values of the masked tensors are not zero in a file, and notes.

    A tensor is found by its size and by its zeros, since converters rename, transpose, scale and
    part it by groups; one that is rearranged otherwise, only by its count. Without `exact`, values
    that are very small may be read as zeros.

    Raises `Unlike` when a tensor is nowhere with all its zeros, or has lost values. A norm
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
        alike = stored.get(mask.numel(), [])
        if found is None and any(present.sum() == mask.sum() for _, present in alike):
            found = mask
            counted.append(name)
        if found is None:
            raise Unlike(f"{name} is nowhere in it with its zeros")
        _check_lost(network, name, pruned.tensors[name], found, exact=exact)
        total += int(torch.count_nonzero(found))
    notes = [f"{', '.join(counted)}: rearranged, and checked only by count"] if counted else []
    unseen = pruned.nnz_in(pruned.tensors) - total
    if unseen and not exact:
        notes.append(f"{unseen:,} values are so small that they are zeros in it")
    return total, tuple(notes)


def _check_lost(
    network: nn.Module, name: str, tensor: Tensor, found: Tensor, *, exact: bool
) -> None:
    """Raise `Unlike` where values are zero in a file and were not, but for whole outputs."""
    lost = (tensor != 0) & ~found
    if not exact:
        lost &= tensor.abs() > _SMALL * tensor.abs().max()
    outputs = (lost.reshape(len(lost), -1).any(1), found.reshape(len(found), -1).any(1))
    broken = int((outputs[0] & outputs[1]).sum())
    gone = int((outputs[0] & ~outputs[1]).sum())
    scales = [t for n, t in network.named_parameters() if n.rpartition(".")[2] == "weight"]
    folded = [int(torch.count_nonzero(t == 0)) for t in scales if t.shape == (len(lost),)]
    if broken or gone > max(folded, default=0):
        raise Unlike(f"{name} has lost values in {broken + gone} outputs")


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


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
