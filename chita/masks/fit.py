"""Masks of files and of users, under the names of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.errors import CheckpointError, InputError
from chita.layout import Layout
from chita.masks.storage import is_mask_file, load_masks, mask_file
from chita.models.checkpoint import known_name, load
from chita.models.prunable import prunable_layout
from chita.models.targets import decide

Masks = Mapping[str, Tensor] | str | Path
"""Named masks (True, or not zero, = kept), or a file that holds them."""


def read_masks(path: Path, model: nn.Module, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Return the masks of a file by tensor name.

    Read are a run folder or its `masks.safetensors`, checkpoints with `weight_mask` buffers of
    `torch.nn.utils.prune`, and the zeros of a checkpoint's prunable tensors.

    Raises `CheckpointError` when the file cannot be read or holds no masks.
    """
    file = mask_file(path)
    if is_mask_file(file):
        return load_masks(file)
    known = model.state_dict()
    tensors = {}
    for name, tensor in load(path, allow_pickle=allow_pickle).items():
        tensors[known_name(name, known) or name] = tensor
    decided = (decision for decision in decide(model) if decision.pruned)
    aliases = {d.role.name: [role.name for role in d.roles] for d in decided}
    return _masks_beside(tensors) or _zeros_of(tensors, aliases)


def _masks_beside(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks stored as `NAME_mask` beside `NAME_orig` or `NAME`, by NAME.

    `torch.nn.utils.prune` keeps `weight_orig` and `weight_mask` in place of `weight`; a mask is
    True where it is not zero. Empty where there are none.
    """
    found = {}
    for name, mask in tensors.items():
        weight = name.removesuffix("_mask")
        beside = [tensors.get(f"{weight}_orig"), tensors.get(weight)]
        if name != weight and any(t is not None and t.shape == mask.shape for t in beside):
            found[weight] = mask != 0
    return found


def _zeros_of(
    tensors: Mapping[str, Tensor], aliases: Mapping[str, Iterable[str]]
) -> dict[str, Tensor]:
    """Return the masks that the zeros of a checkpoint make.

    Args:
        tensors: those of the checkpoint.
        aliases: the name of each mask, and the names under which its tensor may be stored.

    Raises `CheckpointError` when tensors are missing, or none of them holds a zero.
    """
    masks, missing = {}, []
    for name, others in aliases.items():
        stored = next((tensors[other] for other in others if other in tensors), None)
        if stored is None:
            missing.append(name)
        else:
            masks[name] = stored != 0
    if missing:
        raise CheckpointError(
            f"The checkpoint that shall give the mask lacks {', '.join(missing)}. Give one of this "
            "architecture, or a mask file."
        )
    if all(bool(mask.all()) for mask in masks.values()):
        raise CheckpointError(
            "The checkpoint that shall give the mask has no zero in any prunable tensor. Give a "
            "pruned one, or a mask file."
        )
    return masks


def fit_masks(model: nn.Module, masks: Masks) -> tuple[dict[str, Tensor], Layout]:
    """Return the masks under the names of the layout that they make, and this layout.

    Raises `InputError` that lists masks of unknown names or wrong shapes, and `CheckpointError`
    when there are none.
    """
    if isinstance(masks, (str, Path)):
        masks = read_masks(Path(masks), model)
    if not isinstance(masks, Mapping) or not masks:
        raise CheckpointError("There are no masks. Give named boolean tensors, or their file.")
    known = {role.name: decision for decision in decide(model) for role in decision.roles}
    given = {known_name(str(name), known) or str(name): mask for name, mask in masks.items()}
    strange = [n for n, mask in given.items() if not _is_mask(mask)]
    unknown = [name for name in given if name not in known]
    if strange:
        raise InputError(f"Masks must be dense tensors of numbers; these are not: {strange}.")
    if unknown:
        raise InputError(
            f"The network has no parameter {', '.join(unknown)}, for which there are masks. Give "
            "the masks of this architecture."
        )
    layout = prunable_layout(model, targets=list(given))
    device = next(model.parameters()).device
    fitted: dict[str, Tensor] = {}
    for name, mask in given.items():
        first, kept = known[name].role.name, (mask != 0).to(device)
        if first in fitted and not torch.equal(fitted[first], kept):
            raise InputError(f"{first} and {name} are one parameter, but their masks differ.")
        fitted[first] = kept
    layout.flatten(fitted)  # lists every wrong shape
    return fitted, layout


def _is_mask(mask: object) -> bool:
    return isinstance(mask, Tensor) and mask.layout == torch.strided and not mask.is_complex()
