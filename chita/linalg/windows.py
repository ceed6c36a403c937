"""Sliding windows of convolutions, and what positions give multiplied by the windows they see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul
from typing import final

import torch
from torch import Tensor

_COPIED = 1 << 18  # entries of windows copied at a time: they stay in cache
_MANY = 64  # outputs, to multiply a window by, beside which copying it costs little
_NARROW = 32  # entries of a slice of a window, below which products of slices are slow


@final
@dataclass(frozen=True, kw_only=True)
class Windows:
    """How windows lie: at position q, entry t of the kernel sees s·q + d·t.

    Fields: `groups` of channels; by dimension, first to last, `kernel`, `stride` s and `dilation`
    d; `spread`, the zeros before and after each dimension, last dimension first, as `F.pad` has it.
    """

    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...]

    def sizes(self, seen: Sequence[int]) -> torch.Size:
        """Return the number of positions in each dimension, for the sizes of what is seen."""
        before, after = self.spread[-2::-2], self.spread[-1::-2]
        return torch.Size(
            (size + a + b - apart * (k - 1) - 1) // step + 1
            for size, a, b, k, step, apart in zip(
                seen, before, after, self.kernel, self.stride, self.dilation, strict=True
            )
        )

    def blocks(self, seen: Tensor) -> Iterator[Tensor]:
        """Iterate over all windows of some samples at a time, (groups, positions, entries).

        `seen` is (samples, channels, ...). Entries are in the order of the weight, (channels of a
        group, *kernel).
        """
        sizes = self.sizes(seen.shape[2:])
        inner = seen.shape[1] // self.groups
        width = self.groups * inner * torch.Size(self.kernel).numel()
        for _, padded in self._padded(seen, sizes.numel() * width):
            found = self._whole(padded, sizes).movedim(1, 0).flatten(1, -2)
            yield found.unflatten(2, (-1, inner)).mT.flatten(2)

    def products(self, centres: Tensor, seen: Tensor, rows: int) -> Tensor:
        """Return for every row the sum of centres ⊗ window, (r, outputs, inputs of a group, *k).

        With c the centres, (r·m, outputs, *positions), and x̃ what is `seen`, (r·m, inputs, ...),
        with zeros around it, for sample b, entry t of the kernel, over positions q,

            G_b[o, i, t] = Σ_q c_b[o, q] x̃_b[i, s·q + d·t],

        a product of matrices for each group: centres (out, positions) and windows (positions,
        width). Channels come last, so that neighbours in a window lie side by side.
        """
        groups, sizes = self.groups, centres.shape[2:]
        out, inner = centres.shape[1] // groups, seen.shape[1] // groups
        # One product for each entry of the kernel's first dimension copies less (`_slices`), ...
        slices, width = self.kernel[0], torch.Size(self.kernel[1:]).numel() * inner
        # ... but whole windows at a time are faster where copies cost little beside their products,
        # or where products with slices would be too narrow to be fast.
        if out >= _MANY or width < _NARROW:
            slices, width = 1, slices * width
        found = centres.new_empty(slices, len(seen), groups, out, width)
        for part, padded in self._padded(seen, sizes.numel() * groups * width):
            # Centres by sample and group, (samples · groups, out, positions).
            own = centres[part].movedim(1, -1).reshape(len(padded), -1, groups, out)
            own = own.permute(0, 2, 3, 1).flatten(0, 1)
            # Windows by sample and group, (samples · groups, positions, width): G_b, or its slices.
            whole = slices == 1
            copies = [self._whole(padded, sizes)] if whole else self._slices(padded, sizes)
            for k, columns in enumerate(copies):
                torch.bmm(
                    own, columns.flatten(2, -2).flatten(0, 1), out=found[k, part].flatten(0, 1)
                )
        # (slices, r, m, outputs, *rest of the kernel, inner): the sum over a row of m samples, ...
        kernel = (self.kernel[0] // slices, *self.kernel[1:])
        found = found.view(slices, rows, -1, groups * out, *kernel, inner)
        summed = found.squeeze(2) if found.shape[2] == 1 else found.sum(2)
        # ... then the order of the weight: channels before the kernel, slices its first dimension.
        return summed.movedim((0, -1), (3, 2)).flatten(3, 4)

    def _padded(self, seen: Tensor, entries: int) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over blocks of samples: their place, and these with zeros around, channels last.

        A sample has so many `entries` of windows; those of a block stay in cache. All blocks share
        one buffer, whose zeros are written once.
        """
        block = max(1, _COPIED // entries)
        before, after = self.spread[-2::-2], self.spread[-1::-2]  # by dimension, first to last
        sizes = seen.shape[2:]
        whole = [s + a + b for s, a, b in zip(sizes, before, after, strict=True)]
        inside = (slice(None), *(slice(a, a + s) for s, a in zip(sizes, before, strict=True)))
        buffer = seen.new_zeros(min(block, len(seen)), *whole, seen.shape[1])
        for start in range(0, len(seen), block):
            part = slice(start, start + block)
            padded = buffer[: len(seen[part])]
            padded[inside] = seen[part].movedim(1, -1)
            yield part, padded

    def _whole(self, padded: Tensor, sizes: torch.Size) -> Tensor:
        """Return all windows, (samples, groups, *positions, entries of a window)."""
        return _copied(padded, self.groups, sizes, self.stride, self.kernel, self.dilation)

    def _slices(self, padded: Tensor, sizes: torch.Size) -> Iterator[Tensor]:
        """Iterate over the slices of all windows at each entry of the kernel's first dimension.

        Slices whose lines of the input lie a multiple of the stride apart are views of one copy, in
        which windows are made over the other dimensions only: less to copy.
        """
        (step, *steps), (apart, *rest) = self.stride, self.dilation
        # Entry k sees the lines s·q + d·k = s·(q + first) + residue: a shift by `first` positions
        # of the copy of this residue.
        places = [divmod(apart * k, step) for k in range(self.kernel[0])]
        copies = {}
        for residue in {r for _, r in places}:
            # As many lines as the largest shift needs.
            lines = sizes[0] + max(first for first, r in places if r == residue)
            copies[residue] = _copied(
                padded[:, residue:],
                self.groups,
                (lines, *sizes[1:]),
                (step, *steps),
                (1, *self.kernel[1:]),
                (1, *rest),
            )
        for first, residue in places:
            yield copies[residue][:, :, first : first + sizes[0]]


def _copied(
    padded: Tensor,
    groups: int,
    sizes: Sequence[int],
    steps: Sequence[int],
    kernel: Sequence[int],
    apart: Sequence[int],
) -> Tensor:
    """Return windows at every position, (samples, groups, *sizes, entries of a window)."""
    batch, *strides, channel = padded.stride()
    inner = padded.shape[-1] // groups
    # A view with an index for position and one for kernel entry: x̃[s·q + d·t] lies s and d times
    # the stride in memory apart. Only the copy after it takes memory.
    shape = (len(padded), groups, *sizes, *kernel, inner)
    moves = (*map(mul, strides, steps), *map(mul, strides, apart))
    windows = padded.as_strided(shape, (batch, inner * channel, *moves, channel))
    return windows.contiguous().view(*shape[: 2 + len(sizes)], -1)
