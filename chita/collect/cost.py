"""The cost of one sample: operations, of single weights too, and activations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from chita import nested
from chita.errors import InputError
from chita.layout import Layout, Operations
from chita.losses import Loss
from chita.models.forward import hooked
from chita.models.mode import evaluation_mode, state_kept
from chita.models.tensors import is_packed

_MASK = "attention_mask"


@final
@dataclass(kw_only=True)
class Cost:
    """The cost of a sample: `flops` of a forward pass, bytes of all outputs (`activations`).

    A multiply-add is two FLOPs, as PyTorch's counter has it. `by_weight` is the part of them in
    which each parameter of two dimensions or more took part; `positions`, the number of positions
    that each linear module sees, over all its calls.
    """

    flops: int = 0
    activations: int = 0
    by_weight: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)


def sample_cost(model: nn.Module, loss: Loss, sample: Any) -> Cost | None:
    """Return the cost of a batch of one sample, from shapes only (on the meta device).

    None where the network looks at values, which shapes do not tell. An attention mask that hides
    nothing is left out then, as transformers look whether it does.
    """
    unmasked = _unmasked(sample)
    for given in (sample,) if unmasked is None else (sample, unmasked):
        # User code may do anything on a device that it was not written for.
        with suppress(Exception):
            # `memo` stands for what is copied already: copies of the tensors are on the meta device
            # from the beginning, so that no memory is taken for them.
            state = [*model.parameters(), *model.buffers()]
            memo = {id(tensor): _on_meta(tensor) for tensor in state}
            shell = copy.deepcopy(model, memo)
            batch = nested.map_tensors(lambda t: t.to("meta"), given)
            return _counted(shell, partial(loss.mean, shell, batch))
    return None


def with_operations(
    layout: Layout, model: nn.Module, loss: Loss, sample: Any, *, needed: bool = True
) -> Layout:
    """Return the layout with the multiply-adds that each of its weights takes for a sample.

    They are those of one forward pass: from shapes only, or a real one where shapes do not tell.
    Where they are not `needed`, no real pass is made, and the layout stays as it is where they
    are not known.

    Raises `InputError` when a tensor of the layout takes part in none, and they are needed.
    """
    cost = sample_cost(model, loss, sample)
    if cost is None and not needed:
        return layout
    if cost is None:
        batch = nested.copied(sample)
        with state_kept(model):
            cost = _counted(model, lambda: loss.mean(model, batch))
    used = [cost.by_weight.get(name, 0) for name in layout.names]
    idle = [name for name, flops in zip(layout.names, used, strict=True) if not flops]
    if idle and not needed:
        return layout
    if idle:
        raise InputError(
            f"The forward pass of one sample shows no product with {', '.join(idle)}, so what "
            "their weights cost is not known. Leave them out with `ignore`."
        )
    # A multiply-add is two FLOPs, and all weights of a tensor take the same number of them; both
    # quotients are rounded up. What remains is of products without weights of the layout.
    each = tuple(-(-flops // (2 * count)) for flops, count in zip(used, layout.counts, strict=True))
    pruned = sum(e * count for e, count in zip(each, layout.counts, strict=True))
    operations = Operations(each=each, fixed=max(0, -(-cost.flops // 2) - pruned))
    return replace(layout, operations=operations)


def _unmasked(sample: Any) -> Any | None:
    """Return a sample without an attention mask of ones, None if it has no such mask."""
    mask = sample.get(_MASK) if isinstance(sample, Mapping) else None
    if not isinstance(mask, Tensor) or not bool((mask == 1).all()):
        return None
    return {name: value for name, value in sample.items() if name != _MASK}


def _counted(model: nn.Module, run: Callable[[], object]) -> Cost:
    """Run the network once and return what that costs."""
    cost = Cost()

    def add(name: str, module: nn.Module, _args: object, out: object) -> None:
        cost.activations += sum(t.nbytes for t in nested.tensors(out))
        if isinstance(module, nn.Linear) and isinstance(out, Tensor):
            seen = out.numel() // module.out_features
            cost.positions[name] = cost.positions.get(name, 0) + seen

    hooks = (m.register_forward_hook(partial(add, name)) for name, m in model.named_modules())
    matrices = ((name, own) for name, own in model.named_parameters() if own.ndim > 1)
    owners = {_storage(own): name for name, own in matrices if not is_packed(own)}
    with hooked(hooks), evaluation_mode(model), torch.no_grad(), _FlopCounter(cost, owners):
        run()
    return cost


class _FlopCounter(TorchDispatchMode):
    """The FLOPs of all products, and of those with each parameter, added up in a `Cost`.

    `torch.utils.flop_counter.FlopCounterMode` has the same sum, but not whose weights they are of.
    """

    def __init__(self, cost: Cost, owners: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cost, self._owners = cost, owners

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            # An operation may consist of some with a formula, as `linear` does; under this mode
            # they come here one by one.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if packet in flop_registry:
            flops = int(flop_registry[packet](*args, **kwargs, out_val=out))
            self._cost.flops += flops
            # Of two parameters in one product, the first counts it.
            owner = next(filter(None, map(self._owner, tree_leaves((args, kwargs)))), None)
            if owner is not None:
                self._cost.by_weight[owner] = self._cost.by_weight.get(owner, 0) + flops
        return out

    def _owner(self, value: object) -> str | None:
        """Return the parameter that a tensor is, or is a view of, which has the same storage."""
        if not isinstance(value, Tensor) or value.ndim < 2 or is_packed(value):
            return None
        return self._owners.get(_storage(value))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _on_meta(tensor: Tensor) -> Tensor:
    moved = tensor.detach().to("meta")
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
