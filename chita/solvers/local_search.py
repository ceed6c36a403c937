"""Swap a kept weight for a removed one while Q falls, from the result of another method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError
from chita.linalg.select import first_of_largest
from chita.options import option
from chita.problem import Curvature, GradientGram, LocalQuadratic, Minimum, Prices
from chita.solvers.bso import BSO
from chita.solvers.solver import Effort, Found, Solver, Status


@final
@dataclass(frozen=True, kw_only=True)
class LocalSearch(Solver):
    """Single swaps with the exact change of the minimum as their price.

    A round names the `candidates` most promising weights of each side, by the gradient and the
    columns' norms, and prices all their pairs at once (`chita.problem.Prices`). The best pair is
    swapped and the prices follow by two rank-one updates, until no pair lowers Q; then a
    back-solve confirms. Where rounding made it fail, half as many swaps are tried, down to one.

    Q never rises. Where all weights are candidates, the result cannot be improved by one swap.

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
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    @property
    def effort(self) -> Effort:
        """That of the beginning, and some tens of rounds."""
        rounds = min(self.max_rounds, 20)
        inner = self.solver.effort
        return Effort(streams=inner.streams + 4 * rounds, systems=inner.systems + rounds)

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        if problem.ridge == 0:
            raise InputError("local-search prices swaps by the ridge; give one above zero.")
        mask = self.solver.without_bound.solve(problem, constraint, start).mask
        best = problem.minimise_on(mask.nonzero().squeeze(1))
        trace = [best.objective]
        for _ in range(self.max_rounds):
            swapped = swap_round(problem, constraint, mask, best, self.candidates, self.tolerance)
            if swapped is None:
                return Found(weights=best.weights, mask=mask, trace=tuple(trace))
            mask, best = swapped
            trace.append(best.objective)
        return Found(
            weights=best.weights, mask=mask, status=Status.ITERATION_LIMIT, trace=tuple(trace)
        )


def swap_round(
    problem: LocalQuadratic,
    constraint: Constraint,
    mask: Tensor,
    best: Minimum,
    candidates: int,
    tolerance: float,
) -> tuple[Tensor, Minimum] | None:
    """The support and its minimum after swaps among candidates; None where none lowers Q."""
    prices = _priced(problem, mask, best, candidates)
    least = max(tolerance * abs(best.objective), problem.rounding)
    swaps = _sequence(prices, constraint, mask, least, candidates)
    while swaps:
        trial = mask.clone()
        for out, enter in swaps:
            trial[prices.index[out]], trial[prices.index[enter]] = False, True
        minimum = problem.minimise_on(trial.nonzero().squeeze(1), near=best.factor)
        if minimum.objective < best.objective - 0.5 * least:
            return trial, minimum
        swaps = swaps[: len(swaps) // 2]
    return None


def _priced(problem: LocalQuadratic, mask: Tensor, best: Minimum, candidates: int) -> Prices:
    """The prices for the kept weights that seem cheapest, and the removed that promise most."""
    bend = problem.curvature.diagonal() + problem.ridge
    gradient = problem.gradient_from(best.residual, best.weights)
    support, outside = mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)
    costs = bend[support] * best.weights[support] ** 2
    gains = gradient[outside] ** 2 / bend[outside]
    out = support[first_of_largest(-costs, candidates)]
    enter = outside[first_of_largest(gains, candidates)]
    return Prices.at(problem, mask, best, gradient, torch.cat([out, enter]))


def _sequence(
    prices: Prices, constraint: Constraint, mask: Tensor, least: float, longest: int
) -> list[tuple[int, int]]:
    """Swaps (position out, position in), each the best after those before, gaining over `least`."""
    mask = mask.clone()
    swaps: list[tuple[int, int]] = []
    while len(swaps) < longest:
        out, enter, change = prices.swaps()
        allowed = constraint.swaps(mask, prices.index[out], prices.index[enter])
        change = torch.where(allowed, change, torch.inf).flatten()
        best = int(change.argmin()) if len(change) else 0
        if not len(change) or not float(change[best]) < -least:
            break
        i, j = int(out[best // len(enter)]), int(enter[best % len(enter)])
        prices = prices.swapped(i, j)
        mask[prices.index[i]], mask[prices.index[j]] = False, True
        swaps.append((i, j))
    return swaps
