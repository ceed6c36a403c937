"""Swaps of a kept weight for a removed one, by their exact prices."""

from __future__ import annotations

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.linalg.select import first_of_largest
from chita.problem import LocalQuadratic, Minimum, Prices


def swap_round(
    problem: LocalQuadratic,
    constraint: Constraint,
    mask: Tensor,
    best: Minimum,
    candidates: int,
    tolerance: float,
) -> tuple[Tensor, Minimum] | None:
    """Return the mask and its minimum after swaps among candidates; None where none lowers Q.

    Args:
        problem: Q, with λ > 0.
        constraint: the allowed masks.
        mask: the present one, (p,).
        best: the minimum on it.
        candidates: weights of each side that are priced.
        tolerance: share of |Q| by which a swap lowers Q at least.
    """
    prices = _priced(problem, mask, best, candidates)
    least = problem.negligible(tolerance, best.objective)
    swaps = _sequence(prices, constraint, mask, least, candidates)
    while swaps:
        trial = mask.clone()
        for out, enter in swaps:
            trial[prices.index[out]], trial[prices.index[enter]] = False, True
        minimum = problem.minimise_on(trial.nonzero().squeeze(1), near=best.factor)
        # A solve confirms what updated prices promise; half of the least gain is left to rounding.
        if minimum.objective < best.objective - 0.5 * least:
            return trial, minimum
        swaps = swaps[: len(swaps) // 2]  # the first ones saw the least rounding
    return None


def _priced(problem: LocalQuadratic, mask: Tensor, best: Minimum, candidates: int) -> Prices:
    """Return prices for the kept weights that seem cheapest, and the removed that promise most."""
    bend = problem.curvature.diagonal() + problem.ridge
    gradient = problem.gradient_from(best.residual, best.weights)
    # By H as if it were diagonal: removing w_i costs ½(H_ii + λ)w_i², and along the removed weight
    # j alone, whose slope is g_j, Q falls by ½ g_j²/(H_jj + λ).
    out = first_among(mask, -bend * best.weights**2, candidates)
    enter = first_among(~mask, gradient**2 / bend, candidates)
    return Prices.at(problem, mask, best, gradient, torch.cat([out, enter]))


def _sequence(
    prices: Prices, constraint: Constraint, mask: Tensor, least: float, longest: int
) -> list[tuple[int, int]]:
    """Return swaps (position out, position in), each the best after those before it.

    Every one gains more than `least`.
    """
    mask = mask.clone()
    swaps: list[tuple[int, int]] = []
    while len(swaps) < longest:
        out, enter, change = prices.swaps()
        allowed = constraint.swaps(mask, prices.index[out], prices.index[enter])
        row, column, lowest = lowest_pair(change, allowed)
        if not lowest < -least:  # nor NaN
            break
        i, j = int(out[row]), int(enter[column])
        prices = prices.swapped(i, j)  # rank-one updates: no solve between two swaps
        mask[prices.index[i]], mask[prices.index[j]] = False, True
        swaps.append((i, j))
    return swaps


def first_among(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return the index of the `count` largest scores (p,) among a mask (p,), or of all there.

    >>> first_among(torch.tensor([True, False, True]), torch.tensor([1.0, 5.0, 2.0]), 1)
    tensor([2])
    """
    index = mask.nonzero().squeeze(1)
    return index[first_of_largest(scores[index], count)]


def lowest_pair(change: Tensor, allowed: Tensor) -> tuple[int, int, float]:
    """Return the row, the column and the value of the lowest change (a, b) that is allowed.

    The value is infinite where none is.

    >>> lowest_pair(torch.tensor([[1.0, -2.0]]), torch.tensor([[True, True]]))
    (0, 1, -2.0)
    """
    flat = torch.where(allowed, change, torch.inf).flatten()
    if not len(flat):
        return 0, 0, torch.inf
    lowest = int(flat.argmin())
    return *divmod(lowest, change.shape[1]), float(flat[lowest])
