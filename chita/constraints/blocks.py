"""Whole blocks of weights, kept or removed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from math import floor
from typing import Any, final

import torch
from torch import Tensor

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget, Constraint, Divisible, dealt, places
from chita.constraints.keep_k import KeepK
from chita.constraints.sparsity import share_kept
from chita.constraints.tiles import tiles
from chita.errors import InputError
from chita.layout import Layout, WeightIndex, as_index, slices
from chita.options import option, shared


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class WholeBlocks(Divisible):
    """Blocks of weights, each kept or removed whole; `chosen` says which sets of them are allowed.

    `blocks` (b, m) holds the flat indices of every block's weights; weights outside all blocks are
    removed. The value of a block is the norm of its weights' values.

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
        """Return the best blocks."""
        # Σ v² of a mask is Σ norm² of its blocks, so that the best blocks are the best mask.
        norms = values[self.blocks.to(values.device)].double().square().sum(1).sqrt()
        return self._expanded(self.chosen.select(norms))

    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask is made of whole blocks, and these are allowed."""
        kept = mask[self.blocks.to(mask.device)].any(1)
        return self.cuts_none(mask) and self.chosen.allows(kept)

    def cuts_none(self, mask: Tensor) -> bool:
        """Return whether the mask is made of whole blocks, however many."""
        return torch.equal(self.whole(mask), mask)

    def whole(self, mask: Tensor) -> Tensor:
        """Return all weights of the blocks that have one in the mask."""
        return self._expanded(mask[self.blocks.to(mask.device)].any(1))

    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Allow none: single weights do not change sides."""
        return torch.zeros(len(out), len(enter), dtype=torch.bool, device=mask.device)

    def restrict(self, index: Tensor, kept: Tensor) -> WholeBlocks:
        """Return the blocks that lie among the named weights whole; cut ones can only be removed.

        Raises `InputError` if a block is kept in part outside.
        """
        place, outside = places(self.size, index, kept)
        blocks = self.blocks.to(index.device)
        inside, used = place[blocks], outside[blocks]
        if bool((used.any(1) & ~used.all(1)).any()):
            raise InputError("Blocks are kept whole; the weights that stay kept cut one.")
        # A block with a weight outside that is removed can only be removed, so that none of its
        # weights inside may stay: it is in no block of the restriction.
        whole = (inside >= 0).all(1)
        chosen = self.chosen.restrict(whole.nonzero().squeeze(1), used.all(1).nonzero().squeeze(1))
        return WholeBlocks(size=len(index), blocks=inside[whole], chosen=chosen)

    def split(self, parts: Sequence[WeightIndex]) -> list[Constraint]:
        """Give every part the same share of its blocks.

        Raises `InputError` if a block lies in several parts.
        """
        assert isinstance(self.chosen, Divisible)
        owner, place = dealt(self.size, list(map(as_index, parts)))
        blocks = self.blocks.to(owner.device)
        owners = owner[blocks]
        if bool((owners != owners[:, :1]).any()):
            raise InputError(
                "This solver chooses blocks part by part, and some lie in several parts. Use one "
                "that takes all of a layer's blocks together, such as alps."
            )
        # To `chosen` a block is one item, so that its parts are indices of blocks.
        inside = [(owners[:, 0] == i).nonzero().squeeze(1) for i in range(len(parts))]
        shares = zip(parts, inside, self.chosen.split(inside), strict=True)
        return [
            WholeBlocks(size=len(part), blocks=place[blocks[own]], chosen=chosen)
            for part, own, chosen in shares
        ]

    def _expanded(self, kept: Tensor) -> Tensor:
        mask = torch.zeros(self.size, dtype=torch.bool, device=kept.device)
        mask[self.blocks.to(kept.device)[kept].flatten()] = True
        return mask


@final
class Blocks(Budget, kw_only=False):
    """A share to remove of all blocks of `rows` outputs x `columns` inputs.

    Blocks are cut at every kernel position and within every group of a convolution;
    floor((1 - sparsity)·blocks) are kept over the network, and in every tensor enough of them to
    hold `min_keep` weights.

    Raises `InputError` on binding if `rows` does not divide the outputs, or `columns` the inputs.

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
        blocks = f"{self.rows}x{self.columns}"
        return {"blocks": blocks, "sparsity": self.sparsity, "min_keep": self.min_keep}

    def kept(self, layout: Layout) -> int:
        """Return the weights of all blocks kept."""
        each = self.rows * self.columns
        return share_kept(self.sparsity, layout.size // each) * each

    def on_the_way(self, removed: float, layout: Layout) -> Blocks:
        """Return a smaller share of the same blocks."""
        return replace(self, sparsity=removed)

    def bind(self, layout: Layout) -> WholeBlocks:
        """Keep that many blocks."""
        each = self.rows * self.columns
        needs = (
            f"Blocks of {self.rows}x{self.columns} need outputs that {self.rows} and inputs that "
            f"{self.columns} divides"
        )
        # Ties go to the block of lower index, so blocks are in the order of their first weights.
        blocks = [own[own[:, 0].argsort()] for own in tiles(layout, self.rows, self.columns, needs)]
        size = layout.size // each
        k = share_kept(self.sparsity, size)
        least = tuple(-(-weights // each) for weights in layout.floors(self.min_keep))
        needed = max(1, sum(least))
        if k < needed:
            raise InputError(
                f"`sparsity` {self.sparsity} keeps {k} of {size} blocks of {each} weights, but "
                f"{needed} at least over {len(least)} tensors. Ask for a sparsity of at most "
                f"{floor(1e4 * (1 - needed / size)) / 1e4}, or lower `min_keep`."
            )
        chosen = KeepK(size=size, k=k, segments=slices(list(map(len, blocks))), least=least)
        return WholeBlocks(size=layout.size, blocks=torch.cat(blocks), chosen=chosen)
