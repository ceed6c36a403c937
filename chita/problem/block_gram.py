"""The empirical Fisher without what it says of weights that lie in different blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby, pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor

from chita.layout import segments_of, slices
from chita.problem.curvature import Curvature, Factor
from chita.problem.gradient_gram import GradientGram
from chita.problem.rows import DenseRows, Rows
from chita.problem.systems import Answer, padded, padded_factors, similar

_GATHERED = 2**23  # entries of A in a batch of blocks: 64 MB in float64
_FORMED = 32  # blocks that pass over all of A together as fast as one by itself
_BLOCK_ENTRIES = 2**17  # of A: a block with fewer takes longer to call than to multiply


@final
class BlockGram(Curvature):
    """H = diag(A₁ᵀA₁, ..., A_BᵀA_B)/n for rows A = [A₁ ... A_B] (n, p) in B blocks of weights.

    From n rows, n directions are known of p: where p is much larger, most of what AᵀA/n says of
    weights far apart is chance, and a step that trusts it may only move in these n directions. Each
    block by itself has n rows for its own few weights, and the first-order term stays the mean of
    all rows.

    Every block has a residual of its own: image(v) = (A₁v₁, ..., A_Bv_B), shape (B·n,),
    pullback(z) = (A₁ᵀz₁, ..., A_Bᵀz_B)/n, inner(a, b) = aᵀb/n.

    Singh & Alistarh, WoodFisher (2020), section 3.3; Benbaki et al., CHITA (2023), Algorithm 6.
    There a block's weights alone are solved for; here blocks are a curvature, of which one support
    is chosen for all.

    Args:
        rows: A.
        blocks: consecutive slices that cover the p weights; some may be empty.

    >>> rows = DenseRows(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    >>> BlockGram(rows, [slice(0, 1), slice(1, 2)]).block(torch.tensor([0, 1]))
    tensor([[1., 0.],
            [0., 2.]], dtype=torch.float64)
    """

    def __init__(self, rows: Rows, blocks: Sequence[slice]) -> None:
        super().__init__(rows.p)
        self._rows, self._whole, self.num_rows = rows, GradientGram(rows), rows.n
        self._blocks = tuple(blocks)
        self._parts = [] if rows.formed else [rows.part(block) for block in self._blocks]

    def of_rows(self, z: Tensor) -> Tensor:
        """Return z (n,) for every block: its pullback is Aᵀz/n, over all p weights."""
        return z.repeat(len(self._blocks))

    def constant(self, value: float) -> Tensor:
        """Return `value` for each row of each block, float64."""
        return self.of_rows(self._whole.constant(value))

    def image(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return the blocks' products with their part of v, (B·n,)."""
        wide = v.dtype if v.dtype == torch.float64 else self._rows.dtype
        if support is not None and not self._in_bulk(support):
            # Few weights in few blocks: only their columns are read.
            products = v.new_zeros(len(self._blocks), self.num_rows, dtype=wide)
            for place in self._places(support):
                products[place.block] = self._part(place.block).times(v[place.at], place.own)
            return products.flatten()
        if support is not None:
            v = v.new_zeros(self.size).index_copy_(0, support, v)
        # Blocks of equal size are one batched product; an empty one has a residual all the same.
        each = [
            strip.rows.times_each(v[strip.at], strip.blocks)
            if strip.rows
            else v.new_zeros(strip.blocks, self.num_rows, dtype=wide)
            for strip in self._strips
        ]
        return torch.cat(each).flatten()

    def pullback(self, z: Tensor, support: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """Return the blocks' pullbacks of their part of z, (p,) or (k,)."""
        parted = z.view(len(self._blocks), self.num_rows)
        if support is not None and not self._in_bulk(support):
            pulled = [
                self.gram(place.block).pullback(parted[place.block], place.own, exact=exact)
                for place in self._places(support)
            ]
            return torch.cat(pulled) if pulled else z.new_zeros(0, dtype=self._rows.dtype)
        scaled = parted.to(torch.float64 if exact else self._rows.dtype) / self.num_rows
        counts = [strip.blocks for strip in self._strips]
        each = zip(self._strips, scaled.split(counts), strict=True)
        whole = torch.cat([s.rows.transpose_times_each(own) for s, own in each if s.rows])
        return whole if support is None else whole[support]

    def _in_bulk(self, support: Tensor) -> bool:
        """Return whether a product with all of A costs less than one block after another."""
        # Entries of A read: all, or those of the support and, in time, a fixed price for each call.
        ends = torch.searchsorted(support, self.bounds)
        asked = int(torch.count_nonzero(ends.diff()))
        if self._rows.formed:  # a block passes over all that its layer saw
            return _FORMED * asked > len(self._blocks)
        apart = len(support) * self.num_rows + asked * _BLOCK_ENTRIES
        return self.size * self.num_rows < apart

    @cached_property
    def bounds(self) -> Tensor:
        """The first weight of every block, and p, (B + 1,)."""
        starts = [block.start for block in self._blocks]
        return torch.tensor([*starts, self.size], device=self._rows.device)

    @cached_property
    def _strips(self) -> list[_Strip]:
        """Consecutive blocks of equal size, taken together."""
        strips = []
        for width, blocks in groupby(self._blocks, key=lambda block: block.stop - block.start):
            own = list(blocks)
            at = slice(own[0].start, own[-1].stop)
            strips.append(_Strip(self._rows.part(at) if width else None, at, len(own)))
        return strips

    def inner(self, a: Tensor, b: Tensor) -> float:
        """Return aᵀb/n in float64."""
        return self._whole.inner(a, b)

    def diagonal(self) -> Tensor:
        """Return the mean squared gradient of every weight, (p,)."""
        return self._whole.diagonal()

    def block(self, index: Tensor) -> Tensor:
        """Return A_BᵀA_B/n within blocks, zero between them, (k, k)."""
        where = self.block_of(index)
        return torch.where(where.unsqueeze(1) == where, self._whole.block(index), 0.0)

    def factor(self, support: Tensor, near: Factor | None = None) -> Factor:
        """Prepare all blocks; one whose support is that of `near` is not solved again."""
        known = near if isinstance(near, _BlockFactors) and near.curvature is self else None
        kind = _FormedFactors if self._rows.formed else _KeptFactors
        return kind(self, support, known)

    def restrict(self, index: Tensor) -> Curvature:
        """Return the same rows and blocks, seen from the named weights only."""
        return BlockGram(DenseRows(self._rows.gather(index)), segments_of(index, self._blocks))

    def gram(self, block: int) -> GradientGram:
        """Return the Fisher of the weights of one block."""
        return GradientGram(self._part(block))

    def some(self, index: Tensor, blocks: Tensor) -> BlockGram:
        """Return the curvature of an ascending index (k,) of weights of these blocks only."""
        counts = torch.searchsorted(index, self.bounds).diff()[blocks].tolist()
        return BlockGram(DenseRows(self._rows.gather(index)), slices(counts))

    @property
    def at_once(self) -> int:
        """Columns to ask for together."""
        return self._rows.at_once

    def _part(self, block: int) -> Rows:
        return self._parts[block] if self._parts else self._rows.part(self._blocks[block])

    def columns(self, index: Tensor) -> Tensor:
        """Return the columns of A named by an ascending index (b, m), (b, m, n)."""
        return self._whole.columns(index.flatten()).view(*index.shape, self.num_rows)

    def block_of(self, index: Tensor) -> Tensor:
        """Return the block of every weight of an index (k,)."""
        return torch.searchsorted(self.bounds[1:].contiguous(), index, right=True)

    def _places(self, support: Tensor) -> Iterator[_BlockSupport]:
        """Yield the blocks that hold some of an ascending index."""
        ends = torch.searchsorted(support, self.bounds).tolist()
        for number, (start, stop) in enumerate(pairwise(ends)):
            if stop > start:
                at = slice(start, stop)
                yield _BlockSupport(number, at, support[at] - self._blocks[number].start)


class _Strip(NamedTuple):
    """So many `blocks` of equal size: their `rows`, None where they are empty; which weights."""

    rows: Rows | None
    at: slice
    blocks: int


class _BlockSupport(NamedTuple):
    """Some weights of a `block`: where they lie in an index, and which `own` weights they are."""

    block: int
    at: slice
    own: Tensor


class _BlockBatch(NamedTuple):
    """Some `blocks` (b,) that keep about as many weights each, at most m.

    Fields: `support` (b, m), ascending, the last weight again for what a block lacks; `there`
    (b, m), which are; `gram` (b, m, m), A_bᵀA_b in float64.
    """

    blocks: Tensor
    support: Tensor
    there: Tensor
    gram: Tensor


class _BlockFactors(Factor, ABC):
    """The systems of all blocks.

    A block that is asked what it, or `near` with the same support there, was asked before gives
    what it gave.
    """

    def __init__(self, curvature: BlockGram, support: Tensor, near: _BlockFactors | None) -> None:
        self.curvature, self._support = curvature, support
        ends = torch.searchsorted(support, curvature.bounds)
        self._starts, self._counts = ends[:-1], ends.diff()
        # The last question, its answer, and the residuals left over, (B, n).
        self._answer: tuple[Answer, Tensor] | None = None if near is None else near._answer

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        curvature, support = self.curvature, self._support
        asked = residual.double().view(-1, curvature.num_rows)
        left = asked.clone()
        step = torch.zeros(curvature.size, dtype=curvature.diagonal().dtype, device=asked.device)
        kept = torch.zeros_like(step, dtype=torch.bool).index_fill_(0, support, True)
        todo = self._counts > 0
        if self._answer is not None:
            # H is zero between blocks, so an exchange elsewhere changes nothing in a block. Steps
            # of other blocks are taken over as well: they are overwritten below.
            before, remained = self._answer
            known = before.holds(ridge, kept, asked, curvature.block_of)
            step[support] = before.step[support]
            left[known] = remained[known]
            todo &= ~known
        self._solve(todo, asked, ridge, step, left)
        self._answer = Answer(ridge, kept, asked.clone(), step), left
        return step[support], left.flatten()

    @abstractmethod
    def _solve(self, todo: Tensor, asked: Tensor, ridge: float, step: Tensor, left: Tensor) -> None:
        """Solve for the blocks that are True in `todo` (B,), with the residuals `asked` (B, n).

        `step` (p,) and `left` (B, n) take the answer.
        """

    def _slice(self, block: int) -> Tensor:
        """Return the support in a block, as an index of all weights."""
        start = int(self._starts[block])
        return self._support[start : start + int(self._counts[block])]


class _FormedFactors(_BlockFactors):
    """Systems of columns that are formed for them, those of neighbours together, and let go."""

    def _solve(self, todo: Tensor, asked: Tensor, ridge: float, step: Tensor, left: Tensor) -> None:
        for blocks in self._chunks(todo.nonzero().squeeze(1)):
            own = torch.cat([self._slice(block) for block in blocks.tolist()])
            part = self.curvature.some(own, blocks)
            factor = part.factor(torch.arange(len(own), device=own.device))
            step[own], remained = factor.solve(asked[blocks].flatten(), ridge)
            left[blocks] = remained.view(len(blocks), -1)

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        crossed = torch.zeros(len(index), len(index), dtype=torch.float64, device=index.device)
        where = self.curvature.block_of(index)
        for blocks in self._chunks(where.unique()):
            at = torch.isin(where, blocks).nonzero().squeeze(1)
            kept = torch.cat([self._slice(block) for block in blocks.tolist()])
            # Candidates of any order beside the support: the columns of both, in order.
            both = torch.cat([kept, index[at]]).unique()
            factor = self.curvature.some(both, blocks).factor(torch.searchsorted(both, kept))
            crossed[at.unsqueeze(1), at] = factor.cross(torch.searchsorted(both, index[at]), ridge)
        return crossed

    def _chunks(self, blocks: Tensor) -> Iterator[Tensor]:
        """Yield these blocks in order, as many at a time as columns are formed together."""
        ends = self._counts[blocks].cumsum(0)
        start = 0
        while start < len(blocks):
            before = int(ends[start - 1]) if start else 0
            limit = torch.tensor(before + self.curvature.at_once, device=ends.device)
            stop = max(start + 1, int(torch.searchsorted(ends, limit, right=True)))
            yield blocks[start:stop]
            start = stop


class _KeptFactors(_BlockFactors):
    """Systems that are made when they are asked for: small ones many at a time.

    They are kept while they take no more room than A.
    """

    def __init__(self, curvature: BlockGram, support: Tensor, near: _BlockFactors | None) -> None:
        super().__init__(curvature, support, near)
        self._factors: dict[int, Factor] = {}
        self._batches: tuple[Tensor, list[_BlockBatch]] | None = None
        self._room = curvature.num_rows * curvature.size  # as many numbers as A has
        if isinstance(near, _KeptFactors):
            # A system depends on the support only: one with the same support needs no second Gram.
            for block, factor in near._factors.items():
                if torch.equal(self._own(block), near._own(block)):
                    self._keep(block, factor)

    def _solve(self, todo: Tensor, asked: Tensor, ridge: float, step: Tensor, left: Tensor) -> None:
        curvature = self.curvature
        # Fewer weights than rows: k x k normal equations, many blocks at a time.
        few = self._counts < curvature.num_rows
        for batch in self._batched(todo & few):
            columns = curvature.columns(batch.support).double()
            columns.mul_(batch.there.unsqueeze(2))  # what stands in for a lack counts for nothing
            own = self._step(batch, columns, asked[batch.blocks], ridge)
            step[batch.support[batch.there]] = own[batch.there].to(step.dtype)
            left[batch.blocks] += (own.unsqueeze(1) @ columns).squeeze(1)  # r_b + A_b x_b
        # At least as many weights as rows: the n x n dual system of each block by itself, where
        # the residual follows from the solution without a product.
        for block in (todo & ~few).nonzero().squeeze(1).tolist():
            own, left[block] = self._factor(block).solve(asked[block], ridge)
            step[self._slice(block)] = own

    def _step(self, batch: _BlockBatch, columns: Tensor, asked: Tensor, ridge: float) -> Tensor:
        """Return -(C_b + nλI)⁻¹A_bᵀr_b for every block, (b, m), zero for what a block lacks."""
        # The Gram serves several ridges, so the factor is made in a copy. nλ is in float32 here.
        added = torch.full(
            batch.there.shape,
            self.curvature.num_rows * ridge,
            dtype=torch.float32,
            device=batch.there.device,
        )
        triangles = padded_factors(batch.gram.clone(), batch.there, added)
        pulled = asked.unsqueeze(1) @ columns.mT  # (A_bᵀr_b)ᵀ, zero for what a block lacks
        return -torch.cholesky_solve(pulled.mT, triangles).squeeze(2)

    def _batched(self, blocks: Tensor) -> Iterator[_BlockBatch]:
        """Yield batches of the blocks (B,) that are True; keep the last ones, if they find room."""
        if self._batches is not None and torch.equal(self._batches[0], blocks):
            yield from self._batches[1]
            return
        made, room = [], self._room
        n = self.curvature.num_rows
        for some in similar(self._counts, blocks.nonzero().squeeze(1), lambda m: m * n, _GATHERED):
            some = some.sort().values  # so that the batch's support ascends
            places, there = padded(self._starts[some], self._counts[some])
            support = self._support[places]
            # Products in the rows' type, as in every Gram; in float64 to be factored.
            columns = self.curvature.columns(support) * there.unsqueeze(2)
            batch = _BlockBatch(some, support, there, (columns @ columns.mT).double())
            room -= 2 * batch.gram.numel()  # numbers of 8 bytes where those of A have 4
            if room >= 0:
                made.append(batch)
            yield batch
        self._batches = (blocks, made) if room >= 0 else None

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        # C is block-diagonal as H is: weights of two blocks share no row of J.
        crossed = torch.zeros(len(index), len(index), dtype=torch.float64, device=index.device)
        where = self.curvature.block_of(index)
        for block in where.unique().tolist():
            at = (where == block).nonzero().squeeze(1)
            own = index[at] - self.curvature.bounds[block]
            crossed[at.unsqueeze(1), at] = self._factor(block).cross(own, ridge)
        return crossed

    def _own(self, block: int) -> Tensor:
        """Return the support in a block, as an index of its weights."""
        return self._slice(block) - self.curvature.bounds[block]

    def _factor(self, block: int) -> Factor:
        if block in self._factors:
            return self._factors[block]
        factor = self.curvature.gram(block).factor(self._own(block))
        self._keep(block, factor)
        return factor

    def _keep(self, block: int, factor: Factor) -> None:
        """Hold a factor, if its Gram and the factors of two ridges find room."""
        k, n = int(self._counts[block]), self.curvature.num_rows
        # A float64 Gram and two factors of the smaller side, 2 x 3 numbers of 4 bytes; a factor of
        # k < n also holds its columns.
        room = 6 * min(k, n) ** 2 + (k * n if k < n else 0)
        if room <= self._room:
            self._room -= room
            self._factors[block] = factor
