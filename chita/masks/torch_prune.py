"""The form of torch.nn.utils.prune: `weight_orig` and `weight_mask` in place of `weight`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from chita.errors import InputError
from chita.masks.fit import Masks, fit_masks
from chita.models.targets import decide
from chita.models.wrappers import canonical_names, unwrapped

_SUFFIX = "_mask"


def to_torch_prune(model: nn.Module, masks: Masks) -> None:
    """Give a network the form of torch.nn.utils.prune, in place.

    Every masked weight becomes a parameter `NAME_orig` and a buffer `NAME_mask`, whose product
    the module computes at every forward pass; under each of its names, where it is tied.

    Raises `InputError` and `CheckpointError` as `chita.masks.fit.fit_masks` does.
    """
    network = unwrapped(model)
    fitted, _ = fit_masks(network, masks)
    names = {d.role.path: [role.path for role in d.roles] for d in decide(network)}
    for name, mask in fitted.items():
        for own in names[name]:
            module, _, tensor = own.rpartition(".")
            prune.custom_from_mask(network.get_submodule(module), tensor, mask)


def from_torch_prune(model: nn.Module) -> dict[str, Tensor]:
    """Make the weights of a network in that form plain, in place, and return their masks.

    Returns name to boolean mask, True where a weight is kept; the others are exactly zero.

    Raises `InputError` when no weight has that form, or a tied one has several masks.
    """
    network = unwrapped(model)
    masks: dict[str, Tensor] = {}
    first: dict[nn.Parameter, str] = {}
    for owner, module in network.named_modules():
        held = [name.removesuffix(_SUFFIX) for name, _ in module.named_buffers(recurse=False)]
        for tensor in held:
            original = getattr(module, f"{tensor}_orig", None)
            if isinstance(original, nn.Parameter):
                path = f"{owner}.{tensor}" if owner else tensor
                masks[path] = getattr(module, f"{tensor}{_SUFFIX}") != 0
                other = first.setdefault(original, path)
                if not torch.equal(masks[other], masks[path]):
                    raise InputError(
                        f"{other} and {path} are one parameter, but their masks differ. Give both "
                        "the same mask, or each a parameter of its own."
                    )
    for path, mask in masks.items():
        owner, _, tensor = path.rpartition(".")
        module = network.get_submodule(owner)
        prune.remove(module, tensor)
        with torch.no_grad():  # a product with zero may be -0, and not finite for inf
            getattr(module, tensor).masked_fill_(~mask, 0)
    if not masks:
        raise InputError(
            f"{type(network).__name__} has no weight in the form of torch.nn.utils.prune "
            "(NAME_orig and NAME_mask)."
        )
    names = canonical_names(network)
    return {names[path]: mask for path, mask in masks.items()}
