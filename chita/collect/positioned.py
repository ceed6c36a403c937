"""What layers that see several positions of a sample were used on, as positioned rows hold it."""

from __future__ import annotations

from torch import Tensor

from chita.collect.batched import Use
from chita.collect.rules.convolution import (
    convolution,
    transposed_convolution,
    transposed_windows_of,
    windows_of,
)
from chita.collect.rules.linear import linear, linear_inputs_first, positions
from chita.linalg.windows import Windows
from chita.problem import Positions

_OWN = Windows(groups=1, kernel=(1,), stride=(1,), dilation=(1,), spread=(0, 0))


def positions_of(use: Use, rows: int) -> Positions | None:
    """Return what a weight was used on in r rows; None where its rows are no such products.

    Those of linear layers, convolutions and transposed convolutions are. What is returned are
    views where that can be, in the type of the network.
    """
    rule, module = use.holder.rule, use.holder.module
    if use.holder.attribute != "weight":
        return None
    if rule in (linear, linear_inputs_first):
        x, delta = positions(use.inputs, use.delta, rows)
        centres, seen = (delta, x) if rule is linear else (x, delta)
        return Positions(windows=_OWN, centres=centres, seen=seen)
    if rule is convolution:
        lying, padded = windows_of(module, use.inputs)
        return _channels_last(lying, use.delta, padded)
    if rule is transposed_convolution:
        # The roles of input and output gradient are exchanged, as in its rule.
        return _channels_last(transposed_windows_of(module), use.inputs, use.delta)
    return None


def _channels_last(lying: Windows, centres: Tensor, seen: Tensor) -> Positions:
    return Positions(windows=lying, centres=centres.movedim(1, -1), seen=seen.movedim(1, -1))
