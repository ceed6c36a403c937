"""Solve among a few weights, and let more of them in until none wants to come."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.constraints import Constraint, KeepK
from chita.options import option
from chita.problem import Curvature, GradientGram, LocalQuadratic
from chita.solvers.iht import IHT, lipschitz
from chita.solvers.solver import Effort, Found, Solver, Status


@final
class ActiveSet(Solver):
    """Another solver on a small set of weights that grows until no weight outside wants in.

    With w the largest weights (or `start`), cut to the k that are allowed, and g = ∇Q(w), the
    first active set holds them and the `share`·k largest of |w - ηg|, η the minimiser of Q along
    g on the support. `solver` then works on the active weights only, the rest held at zero,
    from the point reached so far. A weight outside wants in if it is in P(w - η∇Q(w)) for one of
    η = 1/L, 2/L, 4/L, ..., `tries` of them, L the constant of `iht` on the first active set: those
    of the shortest such η are let in.

    Q never rises. The end is a point that thresholding steps over all weights, of all the lengths
    tried, do not lead out of the active set.

    Benbaki et al., CHITA (2023), Algorithm 4. Departures: any solver can be wrapped; the steps
    tried begin at 1/L, in the official code at 1/2L; where more than half of the weights would be
    active, all are.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows
    >>> h = GradientGram(DenseRows(torch.ones(2, 1)))  # all entries of H are 1
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([2.0, 1.0]), curvature=h, ridge=1.0, shift=h.constant(0.0)
    ... )
    >>> ActiveSet().solve(q, KeepK(size=2, k=1)).weights  # (2·2 + 1·1)/2
    tensor([2.5000, 0.0000])
    """

    solver: Solver = option(
        IHT(), "Solver of the active weights; a bound of its own plays no part."
    )
    share: float = option(1.5, "Weights active at first, in units of k.", at_least=1)
    tries: int = option(10, "Step lengths tried for a weight to come in.", at_least=1)
    max_rounds: int = option(50, "Rounds of growth at most.", at_least=0)

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)

    @property
    def effort(self) -> Effort:
        """The cost of the solver on the active part, and a few passes a round."""
        inner = self.solver.effort
        rounds = min(self.max_rounds, 5)
        return Effort(streams=4 + 3 * rounds + inner.streams // 4, systems=inner.systems)

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        inner = self.solver.without_bound
        mask = constraint.select(start)
        weights = torch.where(mask, start, 0)
        trace = [problem.value(weights)]
        active, gradient, first_step = self._first(problem, mask, weights), None, 0.0
        status = Status.ITERATION_LIMIT
        for _ in range(self.max_rounds + 1):
            index = active.nonzero().squeeze(1)
            # All weights outside are held at zero, whose cost is in the part's offset.
            part = problem if bool(active.all()) else problem.restrict(index)
            allowed = constraint.restrict(index, index[:0])
            found = inner.solve(part, allowed, weights[index])
            if found.objective < trace[-1]:
                mask = torch.zeros_like(mask).index_copy_(0, index, found.mask)
                weights = torch.zeros_like(weights).index_copy_(0, index, found.weights)
                trace.append(found.objective)
                gradient = None
            if part is problem:
                return Found(weights=weights, mask=mask, status=found.status, trace=tuple(trace))
            gradient = problem.gradient_at(weights) if gradient is None else gradient
            # Once: L of the first active set is kept for later, larger ones.
            first_step = first_step or 1 / lipschitz(part)
            # The weights that the shortest step leading out of the active set takes in.
            steps = (first_step * 2**doubling for doubling in range(self.tries))
            trials = (constraint.select(weights - step * gradient) & ~active for step in steps)
            entering = next((trial for trial in trials if bool(trial.any())), None)
            if entering is None:
                status = found.status
                break
            active = _bounded(active | entering)
        return Found(weights=weights, mask=mask, status=status, trace=tuple(trace))

    def _first(self, problem: LocalQuadratic, mask: Tensor, weights: Tensor) -> Tensor:
        """Return the first active set (p,)."""
        gradient = problem.gradient_at(weights)
        support = mask.nonzero().squeeze(1)
        step, _ = problem.descent(gradient[support], support)
        count = min(len(mask), math.ceil(self.share * len(support)))
        largest = KeepK(size=len(mask), k=count)
        return _bounded(mask | largest.select(weights - step * gradient))


def _bounded(active: Tensor) -> Tensor:
    """Return the active set, or all weights where it holds more than half of them."""
    return torch.ones_like(active) if 2 * int(active.sum()) > len(active) else active
