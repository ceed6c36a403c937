"""Networks as they can be written and measured: copied, on the CPU, with values."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from chita.errors import InputError
from chita.models import copying
from chita.models.tensors import is_plain
from chita.models.wrappers import plain_state


def copied(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU, in eval mode.

    Raises `InputError` for what is no network, has no values yet, or cannot be copied.
    """
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{type(network).__name__} is no torch.nn.Module. Give the network itself."
        )
    kind = type(network).__name__
    named = [*network.named_parameters(), *network.named_buffers()]
    empty = [name for name, tensor in named if is_lazy(tensor) or tensor.is_meta]
    if empty:
        raise InputError(
            f"{kind} has no values in {', '.join(empty)}. Call it once, or load its weights."
        )
    packed = [name for name, tensor in network.named_parameters() if not is_plain(tensor)]
    if packed:
        raise InputError(
            f"{kind} has weights that are sparse, sharded or packed: {', '.join(packed)}. Give it "
            "with dense ones, as to_dense(), full_tensor() and dequantize() make them."
        )
    ask = (
        "If its weights are computed (as by torch.nn.utils.prune or spectral_norm), make them "
        "plain first, such as by torch.nn.utils.prune.remove."
    )
    return copying.copied(network, ask).cpu().eval()


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a network under plain names, detached.

    Raises `InputError` when it holds something else than tensors.
    """
    state = plain_state(network)
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(
            f"{', '.join(strange)} in the state dict are no tensors, so files of tensors cannot "
            "hold them. Remove that extra state."
        )
    return {name: tensor.detach() for name, tensor in state.items()}
