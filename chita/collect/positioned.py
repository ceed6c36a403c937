"""What layers that see several positions of a sample were used on, as positioned rows hold it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from chita.collect.batched import Use, Uses
from chita.collect.rules.convolution import (
    convolution,
    transposed_convolution,
    transposed_windows_of,
    windows_of,
)
from chita.collect.rules.linear import linear, linear_inputs_first, positions
from chita.errors import InputError
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


@final
@dataclass(frozen=True, kw_only=True)
class Outline:
    """The sizes of what a weight is used on in one of its uses.

    Fields: `windows`; of a sample, the sizes of its `centres` and of what is `seen`, channels last;
    `each`, the samples of a row.
    """

    windows: Windows
    centres: tuple[int, ...]
    seen: tuple[int, ...]
    each: int

    @classmethod
    def of(cls, held: Positions, rows: int) -> Outline:
        """Return that of a use in r rows."""
        return cls(
            windows=held.windows,
            centres=tuple(held.centres.shape[1:]),
            seen=tuple(held.seen.shape[1:]),
            each=len(held.centres) // rows,
        )

    @property
    def entries(self) -> int:
        """Numbers that a row takes."""
        return self.each * (math.prod(self.centres) + math.prod(self.seen))

    @property
    def positions(self) -> int:
        """Positions of a row."""
        return self.each * math.prod(self.centres[:-1])


def outlines_of(uses: Uses, rows: int) -> list[Outline] | None:
    """Return the outline of every use in r rows, None where one is no product over positions."""
    held = [positions_of(use, rows) for use in uses]
    if not held or None in held:
        return None
    return [Outline.of(one, rows) for one in held if one is not None]


def positioned_tensors(
    counts: Mapping[str, int],
    outlines: Mapping[str, Sequence[Outline]],
    factored: Mapping[str, tuple[int, int]],
    *,
    rows: int,
    bytes_each: tuple[int, int],
    room: int | None,
    advice: str,
) -> Collection[str]:
    """Return the tensors to hold positioned: none where the others find room as a matrix.

    As few as can be, those first that save most memory for their multiply-adds: positions multiply
    these.

    Args:
        counts: weights of every tensor.
        outlines: of the tensors that can be positioned.
        factored: (out, in) of those held as factors.
        rows: their number n.
        bytes_each: of a number of the matrix, or positioned, and of one of factors.
        room: bytes for all; None for no limit.
        advice: what to do besides fewer samples, where they find no room.

    Raises `InputError` where even so they do not fit, with the number of rows that would.
    """
    narrow, wide = bytes_each
    taken = {n: narrow * c for n, c in counts.items()}  # bytes of a row
    taken |= {n: wide * (out + inner) for n, (out, inner) in factored.items()}
    least = {n: narrow * sum(o.entries for o in own) for n, own in outlines.items()}
    saving = {n: taken[n] - held for n, held in least.items() if held < taken[n]}
    work = {n: counts[n] * sum(o.positions for o in outlines[n]) for n in saving}
    chosen: list[str] = []
    if room is None:
        return chosen
    for name in sorted(saving, key=lambda n: (-saving[n] / work[n], n)):
        if rows * sum(taken.values()) <= room:
            break
        taken[name] = least[name]
        chosen.append(name)
    each = sum(taken.values())
    if rows * each <= room:
        return chosen
    most = room // each
    narrower = "" if narrow <= 2 else " keep them in `storage` bfloat16,"
    raise InputError(
        f"{rows} rows of {sum(counts.values())} weights need {rows * each / 1e9:.1f} GB, but a run "
        f"may take {max(room, 0) / 1e9:.1f} GB for them (`max_memory`; by default half of what is "
        f"free). {advice} `samples`{f' to {most}' if most else ''},{narrower} "
        "or prune fewer layers at a time with `targets`."
    )
