"""Whole blocks of weights, kept or removed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from math import floor
from typing import Any, final

import torch
from torch import Tensor

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget, Constraint, Divisible, owner_of, places
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.sparsity import share_kept
from chita.constraints.unfit import check_fits
from chita.errors import InputError
from chita.layout import Layout, Part, as_index
from chita.options import option, shared


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class WholeBlocks(Divisible):
    """Every block is kept or removed whole, and `chosen` says which sets of blocks are allowed.

    `blocks` (b, m) holds the flat indices of every block's weights; what is in none is removed.
    The value of a block is the norm of its weights', so that the best blocks are the best mask.

    >>> from chita.constraints.keep_k import KeepK
    >>> halves = torch.tensor([[0, 1], [2, 3]])
    >>> constraint = WholeBlocks(size=4, blocks=halves, chosen=KeepK(size=2, k=1))
    >>> constraint.select(torch.tensor([3.0, 0.0, 2.0, 2.0]))
    tensor([ True,  True, False, False])
    """

    size: int
    blocks: Tensor
    chosen: Constraint

    def select(self, values: Tensor) -> Tensor:
        """The best blocks."""
        norms = values[self.blocks.to(values.device)].double().square().sum(1).sqrt()
        return self._expanded(self.chosen.select(norms))

    def allows(self, mask: Tensor) -> bool:
        """Whether the mask is made of whole blocks, and these are allowed."""
        kept = mask[self.blocks.to(mask.device)].any(1)
        return self.cuts_none(mask) and self.chosen.allows(kept)

    def cuts_none(self, mask: Tensor) -> bool:
        """Return whether the mask is made of whole blocks, however many."""
        return torch.equal(self._expanded(mask[self.blocks.to(mask.device)].any(1)), mask)

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """None: single weights do not change sides."""
        return torch.zeros(len(out), len(enter), dtype=torch.bool, device=mask.device)

    def restrict(self, index: Tensor, kept: Tensor) -> WholeBlocks:
        """The blocks that lie among the named weights whole; others can only be removed.

        Raises `InputError` where a block is kept in part outside.
        """
        place, outside = places(self.size, index, kept)
        blocks = self.blocks.to(index.device)
        inside, used = place[blocks], outside[blocks]
        if bool((used.any(1) & ~used.all(1)).any()):
            raise InputError("Blocks are kept whole; the weights that stay kept cut one.")
        whole = (inside >= 0).all(1)
        chosen = self.chosen.restrict(whole.nonzero().squeeze(1), used.all(1).nonzero().squeeze(1))
        return WholeBlocks(size=len(index), blocks=inside[whole], chosen=chosen)

    def split(self, parts: Sequence[Part]) -> list[Constraint]:
        """The same share of the blocks of every part.

        Raises `InputError` where a block lies in several parts.
        """
        assert isinstance(self.chosen, Divisible)
        indices = list(map(as_index, parts))
        owner = owner_of(self.size, indices)
        owners = owner[self.blocks.to(owner.device)]
        if bool((owners != owners[:, :1]).any()):
            raise InputError(
                "This solver chooses blocks part by part, and some lie in several parts. Use one "
                "that takes all of a layer's blocks together, such as alps."
            )
        inside = [(owners[:, 0] == i).nonzero().squeeze(1) for i in range(len(indices))]
        blocks = [places(self.size, index, index)[0] for index in indices]
        return [
            WholeBlocks(size=len(index), blocks=place[self.blocks.to(place.device)[own]], chosen=c)
            for index, place, own, c in zip(
                indices, blocks, inside, self.chosen.split(inside), strict=True
            )
        ]

    def _expanded(self, kept: Tensor) -> Tensor:
        mask = torch.zeros(self.size, dtype=torch.bool, device=kept.device)
        mask[self.blocks.to(kept.device)[kept].flatten()] = True
        return mask


@final
@dataclass(frozen=True)
class Blocks(Budget):
    """Remove the share `sparsity` of all blocks of `rows` outputs x `columns` inputs.

    Blocks are cut at every kernel position and within every group of a convolution;
    floor((1 - sparsity)·blocks) are kept over the network, and in every tensor enough of them to
    hold `min_keep` weights.

    Raises `InputError` on binding where `rows` does not divide the outputs, or `columns` the
    inputs.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 2),), axes=(Axes(),))
    >>> Blocks(2, 1, sparsity=0.5).bind(layout).select(torch.tensor([1.0, 5.0, 2.0, 0.0]))
    tensor([False,  True, False,  True])
    """

    rows: int = option(help="Outputs of a block.", at_least=1)
    columns: int = option(help="Inputs of a block.", at_least=1)
    _: KW_ONLY
    sparsity: float = shared(BudgetOptions, "sparsity", required=True)
    min_keep: int = shared(BudgetOptions, "min_keep")

    @property
    def words(self) -> dict[str, Any]:
        """The blocks, the share and the floors."""
        return {
            "blocks": f"{self.rows}x{self.columns}",
            "sparsity": self.sparsity,
            "min_keep": self.min_keep,
        }

    def kept(self, layout: Layout) -> int:
        """Return the weights of all blocks kept."""
        each = self.rows * self.columns
        return share_kept(self.sparsity, layout.size // each) * each

    def on_the_way(self, removed: float, layout: Layout) -> Blocks:
        """A smaller share of the same blocks."""
        return replace(self, sparsity=removed)

    def bind(self, layout: Layout) -> WholeBlocks:
        """Keep that many blocks."""
        each = self.rows * self.columns
        blocks, segments, unfit, start = [], [], {}, 0
        for name, axes, index in layout.indexed():
            found = axes.matrices(index)
            outputs, inputs = found.shape[1:]
            if outputs % self.rows or inputs % self.columns:
                unfit[name] = f"{outputs} x {inputs}"
                continue
            cut = found.unflatten(1, (-1, self.rows)).unflatten(3, (-1, self.columns))
            own = cut.movedim(3, 2).reshape(-1, each)
            blocks.append(own[own[:, 0].argsort()])
            segments.append(slice(start, start + len(own)))
            start += len(own)
        check_fits(
            f"Blocks of {self.rows}x{self.columns} need outputs that {self.rows} and inputs that "
            f"{self.columns} divides",
            unfit,
        )
        k = share_kept(self.sparsity, start)
        least = tuple(-(-min(self.min_keep, count) // each) for count in layout.counts)
        needed = max(1, sum(least))
        if k < needed:
            raise InputError(
                f"`sparsity` {self.sparsity} keeps {k} of {start} blocks of {each} weights, but "
                f"{needed} at least over {len(least)} tensors. Ask for a sparsity of at most "
                f"{floor(1e4 * (1 - needed / start)) / 1e4}, or lower `min_keep`."
            )
        chosen = KeepKWithFloors(size=start, k=k, segments=tuple(segments), least=least)
        return WholeBlocks(size=layout.size, blocks=torch.cat(blocks), chosen=chosen)
