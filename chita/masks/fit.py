"""Masks of files and of users, under the names of a network."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.errors import CheckpointError, InputError
from chita.layout import Layout
from chita.masks.storage import is_mask_file, load_masks, mask_file
from chita.models.checkpoint import known_name, load, renamed
from chita.models.prunable import prunable_layout
from chita.models.targets import decide
from chita.models.wrappers import check_no_adapters, plain_state
from chita.naming import listed, prefix_between

_SHOWN = 10  # names listed in one message

Masks = Mapping[str, Tensor] | str | Path
"""Named masks (True, or not zero, = kept), or a file that holds them."""


def read_masks(path: Path, model: nn.Module, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Return the masks of a file by tensor name.

    Read are a run folder or its `masks.safetensors`, and of a checkpoint the zeros of prunable
    tensors, with the `weight_mask` buffers of `torch.nn.utils.prune` and others that lie beside a
    weight. Buffers that the network has itself are none.

    Raises `CheckpointError` when the file cannot be read or holds no masks.
    """
    file = mask_file(path)
    if is_mask_file(file):
        return load_masks(file)
    known = plain_state(model)
    decided = decide(model)
    pruned = {d.role.name: [role.name for role in d.roles] for d in decided if d.pruned}
    computed = [role.name for d in decided for role in d.roles if role.parameter is None]
    own = known.keys() - {f"{name}_mask" for name in computed}
    tensors = renamed(load(path, allow_pickle=allow_pickle), known, needed=pruned)
    beside = _masks_beside(tensors, own)
    zeros = _zeros_of({**tensors, **beside}, pruned, others=bool(beside))
    return {**zeros, **beside}


def _masks_beside(tensors: Mapping[str, Tensor], own: Container[str]) -> dict[str, Tensor]:
    """Return the masks stored as `NAME_mask` beside `NAME_orig` or `NAME`, by NAME.

    `torch.nn.utils.prune` keeps `weight_orig` and `weight_mask` in place of `weight`; a mask is
    True where it is not zero, and neither is the weight beside it. Empty where there are none.

    Args:
        tensors: those of the checkpoint.
        own: names of the network's own tensors, of which a buffer beside a weight is no mask.
    """
    found = {}
    for name, mask in tensors.items():
        weight = name.removesuffix("_mask")
        if name == weight or name in own:
            continue
        original, beside = tensors.get(f"{weight}_orig"), tensors.get(weight)
        if original is not None and original.shape == mask.shape:
            found[weight] = mask != 0
        elif beside is not None and beside.shape == mask.shape:
            found[weight] = (mask != 0) & (beside != 0)
    return found


def _zeros_of(
    tensors: Mapping[str, Tensor], aliases: Mapping[str, Iterable[str]], *, others: bool
) -> dict[str, Tensor]:
    """Return the masks that the zeros of a checkpoint make.

    Args:
        tensors: those of the checkpoint.
        aliases: the name of each mask, and the names under which its tensor may be stored.
        others: whether there are masks beside weights, so that only tensors with zeros have one.

    Raises `CheckpointError` when a tensor has other zeros under another name, or, without others,
    some are missing, or none holds a zero.
    """
    masks, missing = {}, []
    for name, stored in aliases.items():
        found = {other: tensors[other] != 0 for other in stored if other in tensors}
        if not found:
            missing.append(name)
            continue
        masks[name] = next(iter(found.values()))
        if not all(torch.equal(mask, masks[name]) for mask in found.values()):
            raise CheckpointError(
                f"{' and '.join(found)} are one tensor of the network, but two with other zeros in "
                "the checkpoint. Give one in which they agree, or a mask file."
            )
    if others:
        return {name: mask for name, mask in masks.items() if not bool(mask.all())}
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
    """Return the masks by the paths of the layout that they make, and this layout.

    Raises `InputError` that lists masks of unknown names or wrong shapes, and `CheckpointError`
    when there are none.
    """
    check_no_adapters(model)
    if isinstance(masks, (str, Path)):
        masks = read_masks(Path(masks), model)
    if not isinstance(masks, Mapping) or not masks:
        raise CheckpointError("There are no masks. Give named boolean tensors, or their file.")
    strange = [str(name) for name, mask in masks.items() if not _is_mask(mask)]
    if strange:
        raise InputError(f"Masks must be dense tensors of numbers; these are not: {strange}.")
    given = {str(name): mask for name, mask in masks.items()}
    paths = paths_of(model, given)
    layout = prunable_layout(model, targets=list(paths.values()))
    device = next(model.parameters()).device
    fitted: dict[str, Tensor] = {}
    for name, mask in given.items():
        path, kept = paths[name], (mask != 0).to(device)
        if path in fitted and not torch.equal(fitted[path], kept):
            raise InputError(f"{path} and {name} are one parameter, but their masks differ.")
        fitted[path] = kept
    layout.flatten(fitted)  # lists every wrong shape
    return fitted, layout


def paths_of(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return the path in a network of the parameter that each name of a mask means.

    Prefixes and marks of wrappers, there or here, do not count. A parameter with several paths has
    its first one as a layer's weight.

    Raises `InputError` that lists unknown names.
    """
    meant = [(decision.role.path, role) for decision in decide(model) for role in decision.roles]
    known = {role.path: path for path, role in meant} | {role.name: path for path, role in meant}
    given = {name: known_name(name, known) or name for name in names}
    off, on = prefix_between(given.values(), known)
    fitted = {name: on + plain.removeprefix(off) for name, plain in given.items()}
    unknown = [name for name in fitted.values() if name not in known]
    if unknown:
        raise InputError(
            f"The network has no parameter {listed(unknown, _SHOWN)}, for which there are masks; "
            f"it has {listed([*dict.fromkeys(known.values())], _SHOWN)}. Give masks of these "
            "alone, all by one prefix or none."
        )
    return {name: known[plain] for name, plain in fitted.items()}


def _is_mask(mask: object) -> bool:
    return isinstance(mask, Tensor) and mask.layout == torch.strided and not mask.is_complex()
