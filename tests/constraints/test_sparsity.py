from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chita.constraints import KeepK, Nonzeros, Sparsity
from chita.errors import InputError
from chita.layout import Axes, Layout


def layout(size):
    return Layout(names=("w",), shapes=((size,),), axes=(Axes(),))


@given(st.integers(0, 9999), st.integers(1, 10**8))
def test_counts_are_exact_decimal_arithmetic(ten_thousandths, size):
    sparsity = Sparsity(ten_thousandths / 10_000)
    assert sparsity.kept(layout(size)) == floor((1 - Fraction(ten_thousandths, 10_000)) * size)


def test_the_count_that_binary_floating_point_gets_wrong():
    assert int((1 - 0.9) * 32_360) == 3_235
    assert Sparsity(0.9).bind(layout(32_360)).k == 3_236


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_sparsity_is_a_share(sparsity):
    with pytest.raises(InputError, match="Share of the weights to remove"):
        Sparsity(sparsity)


def test_a_budget_keeps_at_least_one_weight_and_at_most_all():
    assert Nonzeros(5).bind(layout(5)).k == 5
    with pytest.raises(InputError, match="at least 1"):
        Nonzeros(0)
    with pytest.raises(InputError, match="6 weights to keep out of 5"):
        Nonzeros(6).bind(layout(5))
    with pytest.raises(InputError, match="0 weights to keep out of 5"):
        Sparsity(0.99).bind(layout(5))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_selection_is_feasible_and_of_largest_total(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    constraint = KeepK(size=len(scores), k=k)
    values = torch.tensor(scores, dtype=torch.float32)
    mask = constraint.select(values)
    assert constraint.allows(mask)
    assert float(values[mask].sum()) == sum(sorted(scores)[-k:])
    assert not constraint.allows(~mask) or 2 * k == len(scores)


def test_restriction_takes_off_what_is_kept_outside():
    small = KeepK(size=10, k=6).restrict(torch.arange(5), kept=torch.tensor([6, 7, 9]))
    assert (small.size, small.k) == (5, 3)
    assert KeepK(size=10, k=9).restrict(torch.arange(2), kept=torch.tensor([5])).k == 2
