"""Masks as others leave them: buffers beside weights, or the zeros themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from chita.errors import CheckpointError

_SUFFIX = "_mask"


def masks_beside(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks stored as `NAME_mask` beside `NAME_orig` or `NAME`, by NAME.

    `torch.nn.utils.prune` keeps `weight_orig` and `weight_mask` in place of `weight`; a mask is
    True where it is not zero. Empty where there are none.
    """
    found = {}
    for name, mask in tensors.items():
        weight = name.removesuffix(_SUFFIX)
        beside = [tensors.get(f"{weight}_orig"), tensors.get(weight)]
        if name != weight and any(t is not None and t.shape == mask.shape for t in beside):
            found[weight] = mask != 0
    return found


def zeros_of(
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
