"""As few weights as a bearable loss allows."""

from __future__ import annotations

from dataclasses import KW_ONLY, replace
from typing import Any, final

from chita.budget_options import BudgetOptions
from chita.constraints.constraint import Budget, Constraint
from chita.constraints.sparsity import Sparsity
from chita.errors import InputError
from chita.layout import Layout
from chita.options import option, shared


@final
class MaxLoss(Budget, kw_only=False):
    """The largest sparsity whose network measures worse by `max_loss` at most.

    It is searched for (`chita.pruning.max_loss`). `like` is the budget whose `sparsity` is tried,
    and that says where the weights lie: PerOutput, Blocks, ...; its own `sparsity` has no part.

    >>> MaxLoss(1.0).at(0.8)
    Sparsity(sparsity=0.8, min_keep=1)
    """

    max_loss: float = shared(BudgetOptions, "max_loss", required=True)
    _: KW_ONLY
    like: Budget = option(Sparsity(0.5), "A budget with a `sparsity`, which is searched for.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.like, "sparsity"):
            raise InputError(
                f"`like` is {self.like!r}; give a budget with a `sparsity`, such as Sparsity(0.5), "
                "PerOutput(0.5) or Blocks(4, 1, sparsity=0.5)."
            )

    @property
    def words(self) -> dict[str, Any]:
        """The words of `like`, with the loss in place of the sparsity."""
        words = {name: value for name, value in self.like.words.items() if name != "sparsity"}
        return {"max_loss": self.max_loss, **words} if self.like.words else {}

    @property
    def counts_operations(self) -> bool:
        """As `like` does."""
        return self.like.counts_operations

    def at(self, sparsity: float) -> Budget:
        """Return the budget with a sparsity."""
        return replace(self.like, sparsity=sparsity)  # type: ignore[call-arg]

    def kept(self, layout: Layout) -> int:
        """Return p: all weights are kept at most."""
        return layout.size

    def on_the_way(self, removed: float, layout: Layout) -> Budget:
        """Return `like` at that sparsity."""
        return self.at(removed)

    def bind(self, layout: Layout) -> Constraint:
        """Return the constraint of `like` where nothing is removed yet.

        Raises `InputError` when this network has no such weights.
        """
        return self.at(0.0).bind(layout)
