"""Room for the rows while they come in: written once, p-major, in the type they stay in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from chita.errors import InputError
from chita.layout import Layout, slices
from chita.linalg.select import largest_magnitude
from chita.machine import available_memory, large_matrix
from chita.problem import DenseRows, FactoredRows, HStackRows, Rows

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
        storage: a narrower type for the matrix; in float16 every tensor has its own scale.
        layers: whether the tensors could be pruned layer by layer, which is then the advice.

    Raises `InputError` where memory is too short for them.
    """

    def __init__(
        self,
        layout: Layout,
        count: int,
        dtype: torch.dtype,
        device: torch.device,
        factors: Mapping[str, tuple[int, int]],
        storage: torch.dtype | None = None,
        *,
        layers: bool = False,
    ) -> None:
        self._layout, self._dtype = layout, dtype
        empty = partial(torch.empty, dtype=dtype, device=device)
        self._factors = {n: (empty(out, count), empty(d, count)) for n, (out, d) in factors.items()}
        counts = dict(zip(layout.names, layout.counts, strict=True))
        dense = {name: own for name, own in counts.items() if name not in factors}
        self._places = dict(zip(dense, slices(list(dense.values())), strict=True))
        _check_room(sum(dense.values()), count, storage or dtype, device, layers=layers)
        self._data = large_matrix(sum(dense.values()), count, storage or dtype, device)
        self._powers: dict[str, int] = {}

    def write(self, name: str, start: int, gradients: Tensor | tuple[Tensor, Tensor]) -> None:
        """Put gradients of one tensor into the rows from `start` on.

        They are (r, ...), or the factors δ (r, out) and x (r, in) of a tensor that comes so.
        """
        if isinstance(gradients, tuple):
            for room, factor in zip(self._factors[name], gradients, strict=True):
                room[:, start : start + len(factor)] = factor.T
            return
        part = slice(start, start + len(gradients))
        place = self._places[name]
        if self._data.dtype == torch.float16:
            gradients = gradients * 2.0 ** self._power(name, gradients, place, part)
        shaped = self._data[place].view(*gradients.shape[1:], -1)
        shaped[..., part] = gradients.movedim(0, -1)  # in one pass, whatever its strides

    def rows(self) -> Rows:
        """Return the rows, once all are written."""
        parts: list[Rows] = []
        for factored, names in groupby(self._layout.names, self._factors.__contains__):
            if factored:
                parts += [FactoredRows(*self._factors[name]) for name in names]
            else:
                parts.append(self._dense(list(names)))
        return parts[0] if len(parts) == 1 else HStackRows(parts)

    def _dense(self, names: list[str]) -> Rows:
        """Return the rows of tensors that are neighbours in the matrix."""
        data = self._data[self._places[names[0]].start : self._places[names[-1]].stop]
        if self._data.dtype != torch.float16:
            return DenseRows(data)
        spans = [self._places[n] for n in names]
        counts = torch.tensor([span.stop - span.start for span in spans], device="cpu")
        powers = [2.0 ** -self._powers[n] for n in names]
        scales = torch.tensor(powers, dtype=self._dtype, device="cpu")
        return DenseRows(data, scales.repeat_interleave(counts).to(data.device))

    def _power(self, name: str, gradients: Tensor, place: slice, part: slice) -> int:
        """Return the power of two by which a tensor is stored, lowered when its rows outgrow it."""
        largest = float(largest_magnitude(gradients))
        fitting = 15 - math.frexp(largest)[1] if math.isfinite(largest) else 0
        if name not in self._powers:
            self._powers[name] = min(126, fitting) - _HEADROOM
        elif largest > 0 and fitting < self._powers[name]:
            self._data[place, : part.start] *= 2.0 ** (fitting - self._powers[name])
            self._powers[name] = fitting
        return self._powers[name]


def _check_room(
    p: int, count: int, dtype: torch.dtype, device: torch.device, *, layers: bool
) -> None:
    """Raise `InputError` where memory is too short for a matrix (p, n)."""
    needed = p * count * dtype.itemsize
    free = available_memory() if device.type == "cpu" else None
    if free is None or needed <= free:
        return
    ask = "Pruning layer by layer takes the memory of one block: `solver` alps, sparsegpt or wanda."
    raise InputError(
        f"{count} rows of {p} weights need {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB of "
        f"memory are available. {f'{ask} Or lower' if layers else 'Lower'} `samples`, keep them in "
        "`storage` bfloat16, or prune fewer layers at a time with `targets`."
    )
