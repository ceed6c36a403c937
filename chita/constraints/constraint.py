"""Budgets, which a user writes, and constraints, which a solver sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from chita.layout import Layout


class Constraint(ABC):
    """A set of allowed masks over p weights, as integers and index sets.

    A mask is True where a weight is kept; `size` is the number of weights p.
    """

    size: int

    @abstractmethod
    def select(self, scores: Tensor) -> Tensor:
        """Return the allowed mask (p,) of largest total score, for scores (p,) >= 0.

        It keeps as many weights as the constraint allows, those of score zero too. Ties: the
        lower flat index is kept. Raises `NumericalError` on NaN.
        """

    @abstractmethod
    def allows(self, mask: Tensor) -> bool:
        """Return whether the mask (p,) is allowed and leaves nothing out that still fits."""

    @abstractmethod
    def swaps(self, mask: Tensor, out: Tensor, enter: Tensor) -> Tensor:
        """Return which swaps of an allowed mask are allowed, (a, b) boolean.

        Entry (i, j) tells of removing the weight out[i] and keeping enter[j] in its place.
        """

    @abstractmethod
    def restrict(self, index: Tensor, kept: Tensor) -> Constraint:
        """Return the constraint on the weights named by an ascending index (k,).

        `kept` is the ascending index of the weights outside that stay kept and so use up the
        budget.
        """


class Budget(ABC):
    """What the user says; it becomes a constraint once the network is known."""

    @abstractmethod
    def kept(self, size: int) -> int:
        """Return the number of weights kept of p = size."""

    @abstractmethod
    def on_the_way(self, sparsity: float) -> Budget:
        """Return the budget of a stage before the last, which removes a smaller share.

        Raises `InputError` when this budget can only be met at once.
        """

    @abstractmethod
    def bind(self, layout: Layout) -> Constraint:
        """Return the constraint for the weights of `layout`.

        Raises `InputError` when the budget cannot be met by this network.
        """
