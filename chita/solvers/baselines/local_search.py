"""Swap a kept weight for a removed one while Q falls, from the result of another solver."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError
from chita.options import option
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.solvers.bso import BSO
from chita.solvers.solver import Effort, Found, Solver, Status
from chita.solvers.swaps import swap_round


@final
class LocalSearch(Solver):
    """Single swaps with the exact change of the minimum as their price.

    A round names the `candidates` most promising weights of each side, by the gradient and the
    columns' norms, and prices all their pairs at once (`chita.problem.Prices`). The best pair is
    swapped and the prices follow by two rank-one updates, until no pair lowers Q; then a
    back-solve confirms. Where rounding made it fail, half as many swaps are tried, down to one.

    Q never rises. Where all weights are candidates, the result cannot be improved by one swap.

    >>> import torch
    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> from chita.solvers import Magnitude
    >>> h = GradientGram(DenseRows(torch.tensor([[2.0, 0.0], [0.0, 0.2]])))  # diagonal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 3.0]), curvature=h, ridge=0.1, shift=h.constant(0.0)
    ... )
    >>> LocalSearch(solver=Magnitude()).solve(q, KeepK(size=2, k=1)).weights
    tensor([1., 0.])
    """

    solver: Solver = option(
        BSO(), "Solver whose result is the beginning; a bound of its own plays no part."
    )
    max_rounds: int = option(200, "Rounds of swaps at most.", at_least=0)
    candidates: int = option(256, "Weights of each side in a round of swaps.", at_least=1)
    tolerance: float = option(1e-7, "Share of |Q| by which a swap lowers Q at least.", at_least=0)

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    @property
    def effort(self) -> Effort:
        """The cost of the beginning, and some tens of rounds."""
        rounds = min(self.max_rounds, 20)
        inner = self.solver.effort
        return Effort(streams=inner.streams + 4 * rounds, systems=inner.systems + rounds)

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        if problem.ridge == 0:
            raise InputError("local-search prices swaps by the ridge; give one above zero.")
        mask = self.solver.without_bound.solve(problem, constraint, start).mask
        best = problem.minimise_on(mask.nonzero().squeeze(1))
        trace = [best.objective]
        for _ in range(self.max_rounds):
            swapped = swap_round(problem, constraint, mask, best, self.candidates, self.tolerance)
            if swapped is None:
                return Found.at(best, mask, trace=trace)
            mask, best = swapped
            trace.append(best.objective)
        return Found.at(best, mask, Status.ITERATION_LIMIT, trace)
