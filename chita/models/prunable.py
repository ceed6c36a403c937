"""The weights of a network that are pruned, as one flat vector: chosen, read, written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.machine import solving_device
from chita.models.device import check_finite
from chita.models.mode import check_modes
from chita.models.targets import FROZEN, NO_LAYER, SCRIPTED, check_prunable, decide
from chita.models.tensors import sharing
from chita.models.wrappers import check_no_adapters

_NOTED = 0.01  # share of a network's weights from which on it is noted that they are left out
_NAMED = 3  # tensors that a note names


def prunable_layout(
    model: nn.Module,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
) -> Layout:
    """Return the layout of all weights to prune, in module order; see `targets.decide`.

    Biases and norms never belong to it unless named, and neither do weights that require no
    gradient, while others do. A weight that several modules share appears
    once, under its first name as a layer's weight.

    Raises `InputError` when nothing is left to prune, when a rule matches nothing, or when a module
    computes its weight from other parameters (`torch.nn.utils.parametrize`,
    `torch.nn.utils.prune`), since a change of it would be lost; for weights that change with the
    mode, train or eval; and for weights that are no dense
    real tensors (`chita.models.tensors`), and TorchScript.
    """
    check_no_adapters(model)
    decisions = decide(model, targets, ignore, frozen=False)
    check_prunable(decisions)
    chosen = [decision.role for decision in decisions if decision.pruned]
    if not chosen:
        raise InputError(
            f"There is nothing to prune: {type(model).__name__} has no weight of a linear, "
            "convolution, attention or recurrent layer that is not ignored. Name others with "
            f"`targets`; `chita plan` lists what there is.{_on_quantised(model)}"
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    _check_apart(model, {role.path: parameters[role.path] for role in chosen})
    check_modes(model, {role.path: parameters[role.path] for role in chosen})
    return Layout(
        names=tuple(role.path for role in chosen),
        shapes=tuple(tuple(parameters[role.path].shape) for role in chosen),
        axes=tuple(role.axes for role in chosen),
        width=max(parameters[role.path].element_size() for role in chosen),
    )


def _check_apart(model: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Raise `InputError` where a weight shares memory with another parameter, as views do."""
    own = {id(weight) for weight in chosen.values()}
    others = {name: other for name, other in model.named_parameters() if id(other) not in own}
    for pair in sharing({**chosen, **others}):
        if not chosen.keys().isdisjoint(pair):
            raise InputError(
                f"{' and '.join(pair)} share memory without being one parameter, so their "
                "gradients would not be added, and copies and files hold two. Tie them "
                "(a.weight = b.weight), or give each its own by clone()."
            )


def _on_quantised(model: nn.Module) -> str:
    """Return what to say of modules that keep quantised weights, nothing where there are none."""
    kinds = {name: type(m).__module__ for name, m in model.named_modules() if hasattr(m, "weight")}
    found = [name for name, kind in kinds.items() if ".quantized." in kind]
    return f" {', '.join(found[:_NAMED])}: quantised; prune the network before." if found else ""


def notes_on(
    model: nn.Module,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
) -> tuple[str, ...]:
    """Return a line for each kind of weights that `prunable_layout` leaves out by no rule of users.

    These are matrices that belong to no layer, where they hold 1 % of all or more, and weights
    that require no gradient. Where none requires one, a line says that all are pruned.
    """
    decisions = [d for d in decide(model, targets, ignore, frozen=False) if len(d.shape) > 1]
    whole = sum(math.prod(decision.shape) for decision in decisions)
    lines = []
    for rule, why, least in (
        (NO_LAYER, "belong to no layer", _NOTED),
        (SCRIPTED, "lie in TorchScript", 0.0),
        (FROZEN, "require no gradient", 0.0),
    ):
        own = [d for d in decisions if d.rule == rule and not d.role.name.endswith("bias")]
        share = sum(math.prod(decision.shape) for decision in own) / max(whole, 1)
        if own and share >= least:
            names = ", ".join(decision.role.name for decision in own[:_NAMED])
            more = f" and {len(own) - _NAMED} others" if len(own) > _NAMED else ""
            lines.append(
                f"not pruned: {names}{more}, which {why} and hold {share:.2%} of the network's "
                "weights; `targets` may name them"
            )
    pruned = [decision for decision in decisions if decision.pruned]
    if targets is None and pruned and all(decision.frozen for decision in pruned):
        lines.append("no weight of a layer requires a gradient, so all of them are pruned")
    return tuple(lines)


def read_weights(model: nn.Module, layout: Layout) -> Tensor:
    """Return a copy of the weights of `layout` as one flat vector (p,), float32 at least.

    It lies where the problem is solved (`chita.machine.solving_device`).

    Raises `InputError` that names every tensor with NaN or infinite values.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    narrow = [n for n in layout.names if parameters[n].itemsize == 1]
    if narrow:
        raise InputError(
            f"{', '.join(narrow)} are {parameters[narrow[0]].dtype}, in which PyTorch does not "
            "compute. Convert the network to a wider type first."
        )
    check_finite(type(model).__name__, {name: parameters[name] for name in layout.names})
    flat = layout.flatten(parameters)
    flat = flat.to(solving_device(flat.device))
    return flat.to(torch.promote_types(flat.dtype, torch.float32))


def write_weights(model: nn.Module, layout: Layout, flat: Tensor) -> None:
    """Write a flat vector (p,) into the weights of `layout`, in place.

    Each tensor keeps its type, device and identity, so that optimisers and ties see the change.

    Raises `NumericalError` that names the tensors whose type cannot hold the values; nothing is
    written then.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    cast = {n: values.to(parameters[n].dtype) for n, values in layout.unflatten(flat).items()}
    bad = [name for name, values in cast.items() if not bool(torch.isfinite(values).all())]
    if bad:
        raise NumericalError(
            f"The new weights are too large for the type of {', '.join(bad)}. Prune the network "
            "in float32 (model.float()), or raise `ridge`."
        )
    with torch.no_grad():
        for name, values in cast.items():
            parameters[name].copy_(values)
