"""The default: back-solve, exchange many weights at a time, then swap single ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.linalg.sums import total
from chita.options import option, shared
from chita.problem import LocalQuadratic, Minimum, Prices
from chita.solvers.bso import BSO, best_minimum, supports
from chita.solvers.solver import Effort, Found, Solver, Status
from chita.solvers.swaps import swap_round

_HALVINGS = 40  # of one step: beyond, scores of tiny weights tie or vanish in rounding
_BRIEF = 0.05  # share of |Q| that a round gains at least, between stages
_PRICED = 512  # weights exchanged at most for a trial to be priced before it is solved


@final
class CHITA(Solver):
    """Start from the back-solve, then exchange weights while Q falls: many at a time, then single.

    **Exchanges.** A round takes the minimum w on the present support, where the gradient g is zero
    on the support, and back-solves on the support of P(w - η g/M), P the projection in the metric
    M: the mask of largest sum of √M |w - η g/M|. η is `longest_step`/λ, halved until Q falls;
    several times at once where Q is far too large. No round exchanges more weights than the one
    before, beyond 512; up to there a trial is priced (`chita.problem.Prices`) and solved only if
    it pays. An η that moves nothing ends the search in that metric: a shorter one moves nothing
    either. Two metrics of mean 1 take turns, M = 1, and M = diag(H) + λ scaled, in which weights
    of different curvature compare as they do in a diagonal problem, until neither lowers Q by
    `tolerance`. At M = 1 and η = 1/λ a removed weight competes with the value w̄_j - a_jᵀα that it
    would take if the pull of the kept weights stayed as it is.

    **Swaps**, as `local-search` makes them, until a round gains less than `swap_tolerance`.

    Q never rises, and is never above that of `bso`, whose result is the starting point.

    Composition of the thresholding step and the back-solve of Benbaki et al., CHITA (2023).
    Departure: there the support is chosen once and then solved. Which parts earn their time is
    measured in `docs/solvers.md`. At λ = 0 nothing can be priced, and no swaps are made.

    >>> from chita.constraints import KeepK
    >>> from chita.problem import DenseRows, GradientGram
    >>> h = GradientGram(DenseRows(torch.tensor([[2.0, 0.0], [0.0, 0.2]])))  # diagonal
    >>> q = LocalQuadratic(
    ...     w_bar=torch.tensor([1.0, 3.0]), curvature=h, ridge=0.1, shift=h.constant(0.0)
    ... )
    >>> CHITA().solve(q, KeepK(size=2, k=1)).weights  # the larger (H_jj + λ) w̄_j²
    tensor([1., 0.])
    """

    max_rounds: int = option(
        100, "Rounds of exchange at most, those that fail among them.", at_least=0
    )
    tolerance: float = option(
        1e-3,
        "A round that lowers Q by no more than this share of |Q| counts as failed.",
        at_least=0,
    )
    longest_step: float = option(1.0, "The longest step η, in units of 1/λ.", above=0)
    max_swap_rounds: int = option(100, "Rounds of swaps at most; 0 leaves them out.", at_least=0)
    swap_tolerance: float = option(
        1e-3,
        "A round of swaps that lowers Q by no more than this share of |Q| is the last.",
        at_least=0,
    )
    candidates: int = option(128, "Weights of each side in a round of swaps.", at_least=1)
    tries: int = shared(BSO, "tries")
    max_supports: int = shared(BSO, "max_supports")

    @property
    def effort(self) -> Effort:
        """Some tens of trial supports, most of them near another."""
        rounds = min(self.max_rounds, 20) + min(self.max_swap_rounds, 4)
        return Effort(streams=12 + 4 * rounds, systems=2 + rounds // 2)

    @property
    def brief(self) -> CHITA:
        """Two supports, two rounds of exchange at most, no swaps."""
        return replace(
            self.without_bound,
            max_supports=min(self.max_supports, 2),
            max_rounds=min(self.max_rounds, 2),
            tolerance=max(self.tolerance, _BRIEF),
            max_swap_rounds=0,
        )

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        masks = supports(problem, constraint, start, self.tries)[: self.max_supports]
        mask, best = best_minimum(problem, masks)
        trace = [best.objective]
        exchange = _Exchange(problem, constraint, self)
        failures = rounds = 0
        while failures < 2 and rounds < self.max_rounds:  # two: neither metric gains any more
            rounds += 1
            exchanged = exchange.round(mask, best)
            if exchanged is not None:
                mask, best = exchanged
                trace.append(best.objective)
                if _gained(trace, self.tolerance, problem):
                    failures = 0
                    continue
            failures += 1
            exchange.turn()
        status = Status.CONVERGED if failures == 2 else Status.ITERATION_LIMIT
        if problem.ridge == 0 or self.max_swap_rounds == 0:  # prices divide by λ
            return Found.at(best, mask, status, trace)
        for _ in range(self.max_swap_rounds):
            swapped = swap_round(problem, constraint, mask, best, self.candidates, 0.0)
            if swapped is None:
                break
            mask, best = swapped
            trace.append(best.objective)
            if not _gained(trace, self.swap_tolerance, problem):
                break
        else:
            status = Status.ITERATION_LIMIT
        return Found.at(best, mask, status, trace)


def _gained(trace: list[float], tolerance: float, problem: LocalQuadratic) -> bool:
    """Return whether the last round lowered Q by more than a share of it."""
    return trace[-2] - trace[-1] > problem.negligible(tolerance, trace[-1])


def _halvings(excess: float, objective: float) -> int:
    """Return how often to halve a step until Q, too large by `excess`, is so by about |Q|.

    On real networks the excess fell to a third with every halving.
    """
    return max(1, int(math.log(max(excess / max(objective, 1e-30), 1.0), 3)))


class _Exchange:
    """Rounds of exchange in the metric whose turn it is."""

    def __init__(self, problem: LocalQuadratic, constraint: Constraint, options: CHITA) -> None:
        diagonal = problem.curvature.diagonal() + problem.ridge
        mean = total(diagonal) / len(diagonal)
        # Where the ridge vanishes beside H, a millionth of the mean curvature bounds the step.
        self._longest = options.longest_step / max(problem.ridge, 1e-6 * mean, 1e-30)
        self._problem, self._constraint = problem, constraint
        # diag(H) + λ over its mean, so that one η means the same step in both metrics; a weight
        # without curvature keeps a millionth, since scores are divided by the root.
        self._metric = torch.ones_like(diagonal)
        self._other = (diagonal / max(mean, 1e-30)).clamp_min(1e-6)
        self._tolerance = options.tolerance
        self._limit = len(diagonal)

    def turn(self) -> None:
        """Go on in the other metric."""
        self._metric, self._other = self._other, self._metric

    def round(self, mask: Tensor, best: Minimum) -> tuple[Tensor, Minimum] | None:
        """Return the first of the halved steps whose support has a lower minimum, or None."""
        problem = self._problem
        gradient = problem.gradient_from(best.residual, best.weights)
        gradient[mask] = 0  # exactly so at a minimum on the support; what is left is rounding
        prices: Prices | None = None
        least = self._tolerance * abs(best.objective)
        failed = False  # after a solve that lowers nothing, a trial is priced before it is solved
        halving, ahead = -1, 1
        while (halving := halving + ahead) < _HALVINGS:
            step, ahead = self._longest * 0.5**halving, 1
            # The projection keeps the largest √M |w - ηg/M| = |Mw - ηg|/√M.
            moved = self._metric * best.weights - step * gradient
            trial = self._constraint.select(moved / self._metric.sqrt())
            changed = (trial != mask).nonzero().squeeze(1)
            if len(changed) == 0:  # so a shorter step moves nothing either
                return None
            if len(changed) > self._limit:
                continue
            # The price of d exchanges is a d x d system, where a solve is an n x n one.
            if problem.ridge > 0 and len(changed) <= _PRICED and (failed or best.factor.priced):
                # A shorter step moves fewer weights, most of them priced already.
                if prices is None or not bool(torch.isin(changed, prices.index).all()):
                    prices = Prices.at(problem, mask, best, gradient, changed)
                if prices.change(torch.searchsorted(prices.index, changed)) >= -least:
                    continue
            minimum = problem.minimise_on(trial.nonzero().squeeze(1), near=best.factor)
            failed = minimum.objective >= best.objective
            if not failed:
                self._limit = max(_PRICED, len(changed))
                return trial, minimum
            # Where Q is far too large, steps in between would be solved in vain.
            ahead = _halvings(minimum.objective - best.objective, abs(best.objective))
        return None
