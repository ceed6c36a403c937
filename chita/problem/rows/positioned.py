"""Rows of layers that see several positions of a sample: convolutions, linear ones in sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from chita.linalg.windows import Windows
from chita.problem.rows.dense import DenseRows, gathered
from chita.problem.rows.rows import Rows

_ENTRIES = 2**22  # of centres and of what is seen, in the type of the products, at a time
_FORMED = 2**22  # gradients of rows formed at a time: more is new memory every time, which is slow
_LINE = 16  # rows written together: a line of cache of a column
_FEW = 64  # columns of an output, of as many, below which each is formed by itself
_CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


@final
@dataclass(frozen=True, kw_only=True)
class Positions:
    """What a weight was used on: its rows are scale · Σ centres ⊗ window (`Windows.products`).

    Fields: `windows`, how they lie; `centres` (N, *positions, C) and `seen` (N, *sizes, channels),
    channels last, of N samples; `scale`, a power of two by which 16 bits hold small numbers.
    """

    windows: Windows
    centres: Tensor
    seen: Tensor
    scale: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether every position sees its own entry only, as in 1 x 1 convolutions."""
        one, none = {1}, {0}
        lying = self.windows
        same = {*lying.kernel, *lying.stride, lying.groups} == one and {*lying.spread} == none
        return same and self.centres.shape[1:-1] == self.seen.shape[1:-1]

    def outputs(self, start: int, stop: int) -> Positions | None:
        """Return what some of the C outputs were used on, None where they begin inside a group."""
        centres, groups = self.centres[..., start:stop], self.windows.groups
        each, inner = self.centres.shape[-1] // groups, self.seen.shape[-1] // groups
        first, last = start // each, -(-stop // each)
        whole = start % each == 0 == stop % each
        if not whole and last - first > 1:
            return None
        lying = replace(self.windows, groups=last - first)
        seen = self.seen[..., first * inner : last * inner]
        return replace(self, windows=lying, centres=centres, seen=seen)


@final
class PositionedRows(Rows):
    """A whose row i is the sum of c ⊗ window over the positions of its samples, never formed.

    With V the vector v as a weight, A v = Σ c ∘ layer(x; V) over outputs and positions: a forward
    pass of the layer. Aᵀz is its weight gradient with c scaled by z. Columns are formed when asked
    for. A column has T multiply-adds per row for T positions, and takes none of A's memory.

    Args:
        uses: all uses of the weight, whose rows add up; each has n·m samples for some m.
        shape: of the weight, (C, channels of a group, *kernel); p is its product.
        n: number of rows.
        dtype: type of products; `uses` may be narrower.

    >>> lying = Windows(groups=1, kernel=(1,), stride=(1,), dilation=(1,), spread=(0, 0))
    >>> centres, seen = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]])
    >>> use = Positions(windows=lying, centres=centres, seen=seen)
    >>> PositionedRows([use], (1, 1), 1, torch.float32).times(torch.tensor([1.0]))  # 1·3 + 2·4
    tensor([11.])
    """

    def __init__(
        self, uses: Sequence[Positions], shape: Sequence[int], n: int, dtype: torch.dtype
    ) -> None:
        super().__init__(n, math.prod(shape), dtype, uses[0].centres.device, formed=True)
        self._uses, self._shape = list(uses), tuple(shape)
        self._width = self.p // shape[0]

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v, or A_S v, in the type of v: float64 promotes what was used, not A."""
        if support is not None:
            v = v.new_zeros(self.p).index_copy_(0, support, v)
        return self._each(v).sum(0)

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return Aᵀz or its entries at S; z is rounded to `dtype`."""
        full = self.transpose_times_each(z.to(self.dtype).expand(self._shape[0], -1))
        return full if support is None else full[support]

    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b, where outputs are parts or make up parts."""
        if self._shape[0] % count:
            return gathered(self).times_each(v, count)
        return self._each(v).view(count, -1, self.n).sum(1)

    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b, where outputs are parts or make up parts."""
        if self._shape[0] % len(z):
            return gathered(self).transpose_times_each(z)
        wide = self.type_with(z)
        z = z.to(wide).repeat_interleave(self._shape[0] // len(z), 0).T  # (n, C)
        found = z.new_zeros(self._shape)
        for use in self._uses:
            # The weight gradient of Σ_q z_o c_o · layer(x; V)_o over all samples.
            each = len(use.centres) // self.n
            for at, centres, seen in self._blocks(use, wide):
                scaled = z[at] if each == 1 else z.repeat_interleave(each, 0)[at]
                centres *= scaled.view(len(scaled), *[1] * (centres.ndim - 2), -1)
                found += _weight_gradient(use, centres, seen, self._shape)
        return found.flatten()

    def gather(self, index: Tensor) -> Tensor:
        """Return the columns named by index (k,), (k, n), formed now."""
        outputs, where = (index // self._width).unique(return_inverse=True)
        if not len(index):
            return torch.empty(0, self.n, dtype=self.dtype, device=self.device)
        if _FEW * len(index) < len(outputs) * self._width:
            most = max(use.centres[..., 0].numel() for use in self._uses)
            parts = index.split(max(1, _FORMED // most))
            return torch.cat([self._singly(part) for part in parts])
        uses = [_of(use, outputs) for use in self._uses]
        found = torch.empty(len(index), self.n, dtype=self.dtype, device=self.device)
        # Where groups are asked for whole, an output lies elsewhere among those that were formed.
        place = uses[0][1][where] * self._width + index % self._width
        held, first = [], 0
        for at, formed in self._formed([use for use, _ in uses]):
            held.append(formed.flatten(1)[:, place])
            if at.stop - first >= _LINE or at.stop == self.n:
                found[:, first : at.stop] = torch.cat(held).T
                held, first = [], at.stop
        return found

    def part(self, segment: slice) -> Rows:
        """Return the columns of consecutive weights: as they are if they are of whole outputs."""
        if segment.start % self._width == 0 == segment.stop % self._width:
            start, stop = segment.start // self._width, segment.stop // self._width
            uses = [use.outputs(start, stop) for use in self._uses]
            if None not in uses and stop > start:
                shape = (stop - start, *self._shape[1:])
                return PositionedRows([u for u in uses if u], shape, self.n, self.dtype)
        index = torch.arange(segment.start, segment.stop, device=self.device)
        return DenseRows(self.gather(index))

    def squared_norms(self) -> Tensor:
        """Return squared norms of the columns (p,): rows are formed, some at a time."""
        norms = torch.zeros(self._shape, dtype=self.dtype, device=self.device)
        for _, formed in self._formed(self._uses):
            norms += formed.square().sum(0).view(self._shape)
        return norms.flatten()

    def _each(self, v: Tensor) -> Tensor:
        """Return A_o v_o for every output o, (C, n)."""
        wide = self.type_with(v)
        weight = v.to(wide).view(self._shape)
        found = torch.zeros(self.n, self._shape[0], dtype=wide, device=self.device)
        for use in self._uses:
            each = []
            for _, centres, seen in self._blocks(use, wide):
                passed = _forward(use, centres, seen, weight)
                each.append(passed.mul_(centres).flatten(1, -2).sum(1))
            found += torch.cat(each).view(self.n, -1, self._shape[0]).sum(1)
        return found.T.contiguous()

    def _blocks(self, use: Positions, wide: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield some samples at a time: which, and copies of their centres and what they saw."""
        entries = use.centres[0].numel() + use.seen[0].numel()
        some = max(1, _ENTRIES // entries)
        for start in range(0, len(use.centres), some):
            at = slice(start, start + some)
            centres = use.centres[at].to(wide, copy=True)
            yield at, centres.mul_(use.scale), use.seen[at].to(wide)

    def _formed(self, uses: Sequence[Positions]) -> Iterator[tuple[slice, Tensor]]:
        """Yield some rows at a time: which, and their gradients, (r, C, channels, *kernel)."""
        entries = max(use.centres.shape[-1] for use in uses) * self._width
        some = max(1, _FORMED // entries)
        for start in range(0, self.n, some):
            at = slice(start, min(self.n, start + some))
            total: Tensor | None = None
            for use in uses:
                each = len(use.centres) // self.n
                own = slice(at.start * each, at.stop * each)
                centres = use.centres[own].to(self.dtype) * use.scale
                seen = use.seen[own].to(self.dtype)
                found = use.windows.products(
                    centres.movedim(-1, 1), seen.movedim(-1, 1), at.stop - at.start
                )
                total = found if total is None else total.add_(found)
            assert total is not None
            yield at, total

    def _singly(self, index: Tensor) -> Tensor:
        """Return some columns (k, n), each the product of two channels over the positions."""
        total = torch.zeros(len(index), self.n, dtype=self.dtype, device=self.device)
        outputs, entries = index // self._width, index % self._width
        spots = math.prod(self._shape[2:])
        channels, spot = entries // spots, entries % spots
        for use in self._uses:
            lying, sizes = use.windows, use.centres.shape[1:-1]
            group = outputs // (use.centres.shape[-1] // lying.groups)
            seen = _fitted(use.seen, lying, sizes)
            each = []
            for own, place in enumerate(_spots(lying.kernel)):
                chosen = (spot == own).nonzero().squeeze(1)
                if not len(chosen):
                    continue
                # What every position sees at this entry of the kernel: x̃[s·q + d·t].
                shifted = seen
                for d, t in enumerate(place):
                    first, step = lying.dilation[d] * t, lying.stride[d]
                    shifted = shifted.narrow(1 + d, first, (sizes[d] - 1) * step + 1)
                    shifted = shifted[(slice(None),) * (1 + d) + (slice(None, None, step),)]
                inner = group[chosen] * self._shape[1] + channels[chosen]
                left = use.centres[..., outputs[chosen]].to(self.dtype)
                product = (left * shifted[..., inner].to(self.dtype)).flatten(1, -2).sum(1)
                each.append((chosen, product.view(self.n, -1, len(chosen)).sum(1)))
            for chosen, product in each:
                total[chosen] += product.T * use.scale
        return total


def _of(use: Positions, outputs: Tensor) -> tuple[Positions, Tensor]:
    """Return what outputs (c,) were used on, with their groups, and where they lie there."""
    groups = use.windows.groups
    if groups == 1:
        place = torch.arange(len(outputs), device=outputs.device)
        whole = len(outputs) == use.centres.shape[-1]
        return (use if whole else replace(use, centres=use.centres[..., outputs])), place
    each, inner = use.centres.shape[-1] // groups, use.seen.shape[-1] // groups
    asked, rank = (outputs // each).unique(return_inverse=True)
    if len(asked) == groups:
        return use, outputs
    centres = use.centres.unflatten(-1, (groups, each))[..., asked, :].flatten(-2)
    seen = use.seen.unflatten(-1, (groups, inner))[..., asked, :].flatten(-2)
    lying = replace(use.windows, groups=len(asked))
    return replace(use, windows=lying, centres=centres, seen=seen), rank * each + outputs % each


def _spots(kernel: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Iterate over the entries of a kernel, in the order of the weight."""
    for flat in range(math.prod(kernel)):
        place = []
        for size in reversed(kernel):
            flat, entry = divmod(flat, size)
            place.append(entry)
        yield tuple(reversed(place))


def _fitted(seen: Tensor, lying: Windows, sizes: Sequence[int]) -> Tensor:
    """Return what is seen with zeros around it, as much as the windows of all positions see."""
    spread: list[int] = [0, 0]  # channels, which are last
    for d in reversed(range(len(sizes))):
        before = lying.spread[2 * (len(sizes) - 1 - d)]
        needed = (sizes[d] - 1) * lying.stride[d] + lying.dilation[d] * (lying.kernel[d] - 1) + 1
        spread += [before, needed - before - seen.shape[1 + d]]  # less than none cuts off
    return torch.constant_pad_nd(seen, spread) if any(spread) else seen


def _forward(use: Positions, centres: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """Return layer(x; V) at every position, channels last."""
    if use.plain:
        return seen @ weight.flatten(1).T
    lying = use.windows
    fitted = _fitted(seen, lying, centres.shape[1:-1]).movedim(-1, 1)
    convolve = _CONVOLUTIONS[len(lying.kernel)]
    passed: Tensor = convolve(fitted, weight, None, lying.stride, 0, lying.dilation, lying.groups)
    return passed.movedim(1, -1)


def _weight_gradient(
    use: Positions, centres: Tensor, seen: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient of Σ centres ∘ layer(x; V) by V."""
    if use.plain:
        return (centres.flatten(0, -2).T @ seen.flatten(0, -2)).view(shape)
    lying = use.windows
    fitted = _fitted(seen, lying, centres.shape[1:-1]).movedim(-1, 1)
    gradient: Tensor = torch.ops.aten.convolution_backward(
        *(centres.movedim(-1, 1), fitted, centres.new_empty(shape), None),
        *(lying.stride, [0] * len(lying.kernel), lying.dilation),
        *(False, [0] * len(lying.kernel), lying.groups, (False, True, False)),
    )[1]
    return gradient
