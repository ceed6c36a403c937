"""Prices against minima computed anew with dense algebra."""

from itertools import combinations, product

import pytest
import torch

from chita.constraints import KeepK
from chita.problem import Prices
from tests.problems import random_problem

CASES = [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(4, 10, 6), (12, 10, 4), (6, 12, 6)]
    for first_order, ridge in [(0.0, 0.1), (1.0, 0.01), (1.0, 1.0)]
    for seed in range(3)
]
every_case = pytest.mark.parametrize(("n", "p", "k", "first_order", "ridge", "seed"), CASES)


def minimum(dense, mask):
    return dense.value(dense.minimise_on(mask.nonzero().flatten()))


def priced(problem, mask, index):
    best = problem.minimise_on(mask.nonzero().flatten())
    gradient = problem.gradient_from(best.residual, best.weights)
    return Prices.at(problem, mask, best, gradient, index)


@every_case
def test_the_price_of_a_swap_is_the_change_of_the_minimum(n, p, k, first_order, ridge, seed):
    problem, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    mask = KeepK(size=p, k=k).select(problem.w_bar.abs())
    prices = priced(problem, mask, torch.randperm(p))
    out, enter, change = prices.swaps()
    assert (len(out), len(enter)) == (k, p - k)
    here = minimum(dense, mask)
    for a, b in product(range(k), range(p - k)):
        other = mask.clone()
        other[prices.index[out[a]]], other[prices.index[enter[b]]] = False, True
        expected = pytest.approx(minimum(dense, other) - here, rel=1e-6, abs=1e-9)
        assert float(change[a, b]) == expected
        assert prices.change(torch.stack([out[a], enter[b]])) == expected


@every_case
def test_the_price_of_any_set_is_the_change_of_the_minimum(n, p, k, first_order, ridge, seed):
    problem, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    mask = KeepK(size=p, k=k).select(problem.w_bar.abs())
    index = torch.arange(0, p, 2)
    prices = priced(problem, mask, index)
    here = minimum(dense, mask)
    for moved in combinations(range(len(index)), 3):
        other = mask.clone()
        other[index[list(moved)]] ^= True
        change = prices.change(torch.tensor(moved))
        assert change == pytest.approx(minimum(dense, other) - here, rel=1e-6, abs=1e-9)


@every_case
def test_prices_after_swaps_are_those_computed_anew(n, p, k, first_order, ridge, seed):
    problem, _ = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
    mask = KeepK(size=p, k=k).select(problem.w_bar.abs())
    prices = priced(problem, mask, torch.arange(p))
    for step in range(3):
        out, enter, _ = prices.swaps()
        i, j = int(out[step % len(out)]), int(enter[-1 - step % len(enter)])
        prices = prices.swapped(i, j)
        mask[i], mask[j] = False, True
        anew = priced(problem, mask, torch.arange(p))
        assert torch.equal(prices.kept, mask)
        assert torch.allclose(prices.values, anew.values, rtol=1e-7, atol=1e-9)
        assert torch.allclose(prices.cross, anew.cross, rtol=1e-7, atol=1e-9)
