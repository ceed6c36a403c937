"""Room for the rows while they come in: written once, p-major, in the type they stay in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor

from chita.collect.positioned import Outline
from chita.layout import Layout, slices
from chita.linalg.select import largest_magnitude
from chita.machine import large_matrix
from chita.problem import (
    DenseRows,
    FactoredRows,
    HStackRows,
    PositionedRows,
    Positions,
    Rows,
)

_HEADROOM = 8  # powers of two between the first rows of a tensor in float16 and its largest number


@final
class RowStore:
    """Rows of a layout: some tensors as factors, the other tensors side by side in one matrix.

    Args:
        layout: the weights.
        count: number of rows n.
        dtype: type of products, and of storage unless `storage` is given.
        device: where the rows lie.
        factors: name to (out, in) of the tensors whose rows come as outer products.
        storage: a narrower type for all but these; in float16 every tensor has its own scale.
        outlines: name to those of all uses of the tensors that are held positioned.
    """

    def __init__(
        self,
        layout: Layout,
        count: int,
        dtype: torch.dtype,
        device: torch.device,
        factors: Mapping[str, tuple[int, int]],
        storage: torch.dtype | None = None,
        outlines: Mapping[str, Sequence[Outline]] = MappingProxyType({}),
    ) -> None:
        self._layout, self._dtype, self._count = layout, dtype, count
        empty = partial(torch.empty, dtype=dtype, device=device)
        self._factors = {n: (empty(out, count), empty(d, count)) for n, (out, d) in factors.items()}
        counts = dict(zip(layout.names, layout.counts, strict=True))
        narrow, apart = storage or dtype, {*factors, *outlines}
        self._held = {n: [_Held(o, count, narrow, device) for o in outlines[n]] for n in outlines}
        dense = {name: own for name, own in counts.items() if name not in apart}
        self._places = dict(zip(dense, slices(list(dense.values())), strict=True))
        self._data = large_matrix(sum(dense.values()), count, narrow, device)
        self._powers = {name: _Power() for name in dense}

    def write(
        self, name: str, start: int, gradients: Tensor | tuple[Tensor, Tensor] | list[Positions]
    ) -> None:
        """Put gradients of one tensor into the rows from `start` on.

        They are (r, ...), or the factors δ (r, out) and x (r, in) of a tensor that comes so, or
        what each use of one that is held positioned was used on.
        """
        if isinstance(gradients, list):
            for held, use in zip(self._held[name], gradients, strict=True):
                held.write(start, use)
            return
        if isinstance(gradients, tuple):
            for room, factor in zip(self._factors[name], gradients, strict=True):
                room[:, start : start + len(factor)] = factor.T
            return
        part = slice(start, start + len(gradients))
        place = self._places[name]
        if self._data.dtype == torch.float16:
            gradients = self._powers[name].scaled(gradients, self._data[place, : part.start])
        shaped = self._data[place].view(*gradients.shape[1:], -1)
        shaped[..., part] = gradients.movedim(0, -1)  # in one pass, whatever its strides

    def rows(self) -> Rows:
        """Return the rows, once all are written."""
        parts: list[Rows] = []
        for dense, group in groupby(self._layout.names, self._places.__contains__):
            names = list(group)
            parts += [self._dense(names)] if dense else map(self._apart, names)
        return parts[0] if len(parts) == 1 else HStackRows(parts)

    def _apart(self, name: str) -> Rows:
        """Return the rows of a tensor that is not in the matrix."""
        if name in self._factors:
            return FactoredRows(*self._factors[name])
        uses = [held.positions() for held in self._held[name]]
        shape = self._layout.shapes[self._layout.names.index(name)]
        return PositionedRows(uses, shape, self._count, self._dtype)

    def _dense(self, names: list[str]) -> Rows:
        """Return the rows of tensors that are neighbours in the matrix."""
        data = self._data[self._places[names[0]].start : self._places[names[-1]].stop]
        if self._data.dtype != torch.float16:
            return DenseRows(data)
        spans = [self._places[n] for n in names]
        counts = torch.tensor([span.stop - span.start for span in spans], device="cpu")
        powers = [self._powers[n].inverse for n in names]
        scales = torch.tensor(powers, dtype=self._dtype, device="cpu")
        return DenseRows(data, scales.repeat_interleave(counts).to(data.device))


class _Power:
    """The power of two by which numbers are stored, lowered when later ones outgrow it."""

    def __init__(self) -> None:
        self._power: int | None = None

    @property
    def inverse(self) -> float:
        """What stored numbers are to be multiplied by."""
        return 2.0 ** -(self._power or 0)

    def scaled(self, numbers: Tensor, before: Tensor) -> Tensor:
        """Return numbers as they are to be stored; those stored `before` are brought to that."""
        largest = float(largest_magnitude(numbers))
        fitting = 15 - math.frexp(largest)[1] if math.isfinite(largest) else 0
        if self._power is None:
            self._power = min(126, fitting) - _HEADROOM
        elif largest > 0 and fitting < self._power:
            before *= 2.0 ** (fitting - self._power)
            self._power = fitting
        return numbers * 2.0**self._power


class _Held:
    """Room for one use of a tensor whose rows are positioned."""

    def __init__(self, of: Outline, count: int, dtype: torch.dtype, device: torch.device) -> None:
        self._of, samples = of, count * of.each
        rooms = (
            large_matrix(samples, math.prod(sizes), dtype, device).view(samples, *sizes)
            for sizes in (of.centres, of.seen)
        )
        self._rooms = [(room, _Power()) for room in rooms]

    def write(self, start: int, use: Positions) -> None:
        start *= self._of.each
        for (room, power), found in zip(self._rooms, (use.centres, use.seen), strict=True):
            half = room.dtype == torch.float16
            stored = power.scaled(found, room[:start]) if half else found
            room[start : start + len(found)] = stored

    def positions(self) -> Positions:
        (centres, first), (seen, second) = self._rooms
        scale = first.inverse * second.inverse
        return Positions(windows=self._of.windows, centres=centres, seen=seen, scale=scale)
