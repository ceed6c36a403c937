"""Swap a kept weight for a removed one while Q falls, from the result of another method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from chita.arguments import whole_number
from chita.constraints import Constraint
from chita.errors import InputError
from chita.problem import Curvature, GradientGram, LocalQuadratic, Minimum
from chita.solvers.chita import CHITA
from chita.solvers.solver import Effort, Found, Solver, Status


@final
@dataclass(frozen=True, kw_only=True)
class LocalSearch(Solver):
    """Single swaps with the exact change of the minimum as their price.

    At the minimum on a support S let z = w̄ - Aᵀα, the kept weights where kept, and for removed
    ones the values they would take if the others' pull stayed as it is. With
    C = AᵀM⁻¹A, M = A_S A_Sᵀ + nλI, removing i and keeping j instead changes the minimum by

    (λ/2) [(1 + C_jj) z_i² - 2 C_ij z_i z_j - (1 - C_ii) z_j²] / [(1 - C_ii)(1 + C_jj) + C_ij²],

    which follows from the dual of Q on S (`docs/architecture.md`): both moves change M by one
    column each. All pairs among the `candidates` most promising weights of each side (by the
    gradient and the columns' norms) are priced at once. The best pairs, no weight twice, are taken
    together and confirmed by a back-solve; if Q does not fall, half as many, down to the best one.

    Q never rises. Where all weights are candidates, the result cannot be improved by one swap.

    Fields: `solver`, whose result is the beginning; `max_rounds`; `candidates` of each side;
    `tolerance`, the share of |Q| that a swap must gain.
    """

    solver: Solver = CHITA()
    max_rounds: int = 200
    candidates: int = 256
    tolerance: float = 1e-7

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (GradientGram,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("candidates", self.candidates, at_least=1, meaning="weights of each side")
        if self.max_rounds < 0 or self.tolerance < 0:
            raise InputError(f"{self}: max_rounds and tolerance are at least 0.")

    @property
    def effort(self) -> Effort:
        """That of the beginning, and some tens of rounds."""
        rounds = min(self.max_rounds, 40)
        inner = self.solver.effort
        return Effort(streams=inner.streams + 4 * rounds, systems=inner.systems + rounds)

    def _search(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None
    ) -> Found:
        if problem.ridge == 0:
            raise InputError("local-search prices swaps by the ridge; give one above zero.")
        mask = self.solver.solve(problem, constraint, start).mask
        best = problem.minimise_on(mask.nonzero().squeeze(1))
        trace = [best.objective]
        for _ in range(self.max_rounds):
            swapped = self._round(problem, constraint, mask, best)
            if swapped is None:
                return Found(weights=best.weights, mask=mask, trace=tuple(trace))
            mask, best = swapped
            trace.append(best.objective)
        return Found(
            weights=best.weights, mask=mask, status=Status.ITERATION_LIMIT, trace=tuple(trace)
        )

    def _round(
        self, problem: LocalQuadratic, constraint: Constraint, mask: Tensor, best: Minimum
    ) -> tuple[Tensor, Minimum] | None:
        """The next support and its minimum, or None where no pair of candidates lowers Q."""
        out, enter, change = self._priced(problem, mask, best)
        least = max(self.tolerance * abs(best.objective), problem.rounding)
        change[~constraint.swaps(mask, out, enter)] = torch.inf
        pairs = _disjoint(change, least)
        while pairs:
            trial = mask.clone()
            trial[out[[i for i, _ in pairs]]] = False
            trial[enter[[j for _, j in pairs]]] = True
            if constraint.allows(trial):  # each swap is, but several at once need not be
                minimum = problem.minimise_on(trial.nonzero().squeeze(1), near=best.factor)
                if minimum.objective < best.objective - 0.5 * least:
                    return trial, minimum
            pairs = pairs[: len(pairs) // 2]
        return None

    def _priced(
        self, problem: LocalQuadratic, mask: Tensor, best: Minimum
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates to leave (a,) and to enter (b,), and the change of Q for each pair (a, b)."""
        curvature, ridge = problem.curvature, problem.ridge
        bend = curvature.diagonal() + ridge
        gradient = problem.gradient_from(best.residual, best.weights)
        support, outside = mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)
        costs = bend[support] * best.weights[support] ** 2
        gains = gradient[outside] ** 2 / bend[outside]
        out = support[_first(-costs, self.candidates)]
        enter = outside[_first(gains, self.candidates)]
        cross = best.factor.cross(torch.cat([out, enter]), ridge)
        inner, outer = cross.diagonal()[: len(out)], cross.diagonal()[len(out) :]
        both = cross[: len(out), len(out) :]
        z_out = best.weights[out].double().unsqueeze(1)
        z_enter = -gradient[enter].double() / ridge  # since the gradient off S is -λz
        left, right = (1 - inner).unsqueeze(1), 1 + outer
        price = right * z_out**2 - 2 * both * z_out * z_enter - left * z_enter**2
        return out, enter, 0.5 * ridge * price / (left * right + both**2)


def _first(scores: Tensor, count: int) -> Tensor:
    """Positions of the largest scores, the lower position first among equals."""
    return scores.argsort(descending=True, stable=True)[:count]


def _disjoint(change: Tensor, least: float) -> list[tuple[int, int]]:
    """Pairs that lower Q by more than `least`, the best first, no weight twice."""
    pairs: list[tuple[int, int]] = []
    rows, columns = set[int](), set[int]()
    flat = change.flatten()
    for position in flat.argsort(stable=True).tolist():
        i, j = divmod(position, change.shape[1])
        if float(flat[position]) >= -least:
            break
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            pairs.append((i, j))
    return pairs
