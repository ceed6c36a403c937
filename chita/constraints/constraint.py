"""Budgets, which a user writes, and constraints, which a solver sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from chita.errors import InputError
from chita.layout import Layout, WeightIndex
from chita.options import Options


class Constraint(ABC):
    """A set of allowed masks over p weights, as integers and index sets.

    A mask is True where a weight is kept; `size` is the number of weights p.
    """

    size: int

    @abstractmethod
    def select(self, values: Tensor) -> Tensor:
        """Return the allowed mask S (p,) with the largest Σ_S v², for values v (p,).

        v restricted to S is the allowed point nearest to v: the projection P(v) of thresholding
        methods. S keeps as many weights as the constraint allows, those of value zero too. Ties:
        the lower flat index is kept. Raises `NumericalError` on NaN.
        """

    def ceiling(self, values: Tensor, mask: Tensor) -> float:
        """Return a number that Σ_S v² exceeds at no allowed mask S, given the mask selected for v.

        That is the sum over this mask, except where it is not proven to be the best.
        """
        chosen = torch.where(mask, values, 0).double()
        return float(chosen @ chosen)

    @abstractmethod
    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask (p,) is allowed and leaves nothing out that still fits."""

    def whole(self, mask: Tensor) -> Tensor:
        """Return the mask (p,) with all of what is kept or removed together and partly in it."""
        return mask

    @abstractmethod
    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return which swaps of an allowed mask are allowed, (a, b) boolean.

        Entry (i, j) is for removing the weight out[i] and keeping enter[j] in its place.
        """

    @abstractmethod
    def restrict(self, index: Tensor, kept: Tensor) -> Constraint:
        """Return the constraint on the weights named by an ascending index (k,).

        `kept` is the ascending index of the weights outside that stay kept and so use up the
        budget; all other weights outside are removed.
        """


class Divisible(Constraint):
    """A constraint that can be met part by part, each part with its share of the budget."""

    @abstractmethod
    def split(self, parts: Sequence[WeightIndex]) -> list[Constraint]:
        """Return a constraint for each of several ascending indices that cover all weights once.

        Masks that each allows are together a mask that this allows. Shares are proportional to the
        numbers of weights, rounded so that they sum to the whole, the largest remainders up.
        """


class Budget(Options, ABC, eq=False):
    """A user's limit on what is kept; it becomes a constraint once the network is known.

    A budget is a frozen dataclass whose fields are options (`chita.options`). Two budgets joined by
    `&` are met together, if one of them can stand beside the other. `local` is True for a budget
    that is met if every tensor meets it by itself.

    >>> from chita.constraints import Flops, Sparsity
    >>> (Flops(0.3) & Sparsity(0.8)).words
    {'flops': 0.3, 'sparsity': 0.8, 'min_keep': 1}
    """

    local: ClassVar[bool] = False

    def __and__(self, other: Budget) -> Budget:
        """Return the budget that asks for both.

        Raises `InputError` unless one is a `Flops` and the other limits weights or bytes.
        """
        both = self.limited(other)
        if both is None and isinstance(other, Budget):
            both = other.limited(self)  # & commutes, and only one side knows the other's kind
        if both is None:
            raise InputError(
                f"{type(self).__name__} & {type(other).__name__} is no budget. Combine one Flops "
                "with one Sparsity, Nonzeros or Megabytes: Flops(0.3) & Sparsity(0.8)."
            )
        return both

    def limited(self, weights: object) -> Budget | None:
        """Return this budget with a limit of weights beside it; None if it takes no such limit."""
        return None

    @property
    def words(self) -> dict[str, Any]:
        """The fields of `chita.budget_options.BudgetOptions` that say the same, if any do."""
        return {}

    @property
    def counts_operations(self) -> bool:
        """Whether `bind` needs a layout with operations."""
        return False

    @abstractmethod
    def kept(self, layout: Layout) -> int:
        """Return the number of weights kept: at most, if another limit may bind first."""

    def removed(self, layout: Layout) -> float:
        """Return the share removed in the end, of what schedules count: weights, if possible."""
        return 1 - self.kept(layout) / layout.size

    def reached(self, removed: float, layout: Layout) -> float:
        """Return the part of the way, in [0, 1], that a stage has gone which removes that share."""
        final = self.removed(layout)
        return min(1.0, removed / final) if final else 0.0

    @abstractmethod
    def on_the_way(self, removed: float, layout: Layout) -> Budget:
        """Return the budget of a stage before the last, which removes a smaller share.

        Raises `InputError` when this budget can only be met at once.
        """

    @abstractmethod
    def bind(self, layout: Layout) -> Constraint:
        """Return the constraint for the weights of `layout`.

        Raises `InputError` when the budget cannot be met by this network.
        """


def places(size: int, index: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position of each of p weights in an index, -1 for none, and whether it is kept.

    >>> places(3, torch.tensor([1, 2]), torch.tensor([0]))
    (tensor([-1,  0,  1]), tensor([ True, False, False]))
    """
    place = torch.full((size,), -1, dtype=torch.long, device=index.device)
    place[index] = torch.arange(len(index), device=index.device)
    outside = torch.zeros(size, dtype=torch.bool, device=index.device)
    outside[kept] = True
    return place, outside


def dealt(size: int, indices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return which of several indices, that cover p weights once, has each weight, and where, (p,).

    >>> dealt(3, [torch.tensor([1]), torch.tensor([0, 2])])
    (tensor([1, 0, 1]), tensor([0, 0, 1]))
    """
    owner = torch.empty(size, dtype=torch.long, device=indices[0].device)
    place = torch.empty_like(owner)
    for i, index in enumerate(indices):
        owner[index] = i
        place[index] = torch.arange(len(index), device=index.device)
    return owner, place


def check_floors(size: int, k: int, floors: int, over: str) -> None:
    """Raise `InputError` unless k of p weights can be kept, among them `floors` in all.

    >>> check_floors(4, 2, floors=2, over="2 tensors")
    """
    if not floors <= k <= size:
        raise InputError(
            f"{k} of {size} weights are to be kept, but {floors} at least over {over}. Keep more, "
            "or lower `min_keep`."
            if floors
            else f"{k} weights of {size} cannot be kept."
        )


def floors_left(least: Sequence[int], used: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return what floors ask of `sizes[t]` weights of a segment when `used[t]` outside are kept.

    >>> floors_left([3, 3, 1], used=[1, 0, 2], sizes=[5, 2, 5])
    (2, 2, 0)
    """
    floors = zip(least, used, sizes, strict=True)
    # At most all of them: what a restriction leaves out and does not keep can meet no floor.
    return tuple(min(max(0, floor - met), size) for floor, met, size in floors)
