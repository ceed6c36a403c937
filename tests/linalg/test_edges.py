"""Edges of the numerical functions: batches, ties, blocks, and where an iteration ends."""

import pytest
import torch

from chita.errors import NumericalError
from chita.linalg.cholesky import cholesky
from chita.linalg.conjugate_gradient import conjugate_gradient
from chita.linalg.select import first_of_largest, kth_largest, largest_magnitude
from chita.linalg.spectral import largest_eigenvalue
from chita.linalg.sums import dot, total


def test_one_infinite_diagonal_in_a_batch_is_no_factor():
    fine = torch.eye(2).repeat(2, 1, 1)
    assert torch.equal(cholesky(fine), fine)
    for batch, place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        broken = fine.clone()
        broken[batch, place, place] = torch.inf
        with pytest.raises(NumericalError, match=r"2 x 2 system .* not finite"):
            cholesky(broken)


def test_the_size_told_is_that_of_one_system():
    with pytest.raises(NumericalError, match=r"1 x 1 system .* not positive definite"):
        cholesky(torch.zeros(2, 3, 1, 1))


def test_conjugate_gradients_end_at_the_limit_and_not_before():
    """In exact arithmetic, n steps solve a system of n different eigenvalues, and fewer do not."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    b = torch.ones(4, dtype=torch.float64)
    for limit in range(6):
        products = []

        def product(v, products=products):
            products.append(v)
            return values * v

        found = conjugate_gradient(product, b, lambda v: v, tolerance=1e-9, limit=limit)
        assert len(products) == min(limit, 4)
        assert (found is None) == (limit < 4)
    for limit in (0, 3):
        x, left = conjugate_gradient(product, 0 * b, lambda v: v, tolerance=0, limit=limit)
        assert not x.any()
        assert not left.any()
    flat = conjugate_gradient(lambda v: 0 * v, b, lambda v: v, tolerance=1e-9, limit=3)
    assert flat is None  # not positive definite


def test_power_iteration_ends_where_the_estimate_stays():
    products = []

    def triple(v):
        products.append(v)
        return 3 * v

    assert largest_eigenvalue(triple, torch.ones(4)) == 3
    assert len(products) == 2  # the second confirms the first
    unit = torch.tensor([1.0, 0.0])
    assert largest_eigenvalue(triple, unit) == 3
    assert largest_eigenvalue(triple, 0 * unit) == 0
    # A first estimate of one, which is no end: the largest eigenvalue is two.
    h = torch.tensor([0.0, 2.0], dtype=torch.float64)
    start = torch.tensor([0.75**0.5, 0.5], dtype=torch.float64)
    assert largest_eigenvalue(lambda v: h * v, start) == pytest.approx(2)


@pytest.mark.parametrize("count", [4999, 5000, 6000])
def test_all_of_many_ties_come_in_order(count):
    values = torch.randint(0, 3, (5000,), generator=torch.Generator().manual_seed(1)).float()
    expected = (-values.numpy()).argsort(kind="stable")[:count]
    assert first_of_largest(values, count).tolist() == expected.tolist()


def test_the_kth_largest_is_that_of_the_values_and_changes_none():
    values = torch.tensor([2.0, 5.0, 1.0, 4.0, 3.0])
    before = values.clone()
    assert [float(kth_largest(values, k)) for k in range(1, 6)] == [5, 4, 3, 2, 1]
    assert torch.equal(values, before)


def test_the_largest_magnitude_is_nan_only_where_there_is_one():
    assert float(largest_magnitude(torch.tensor([[-3.0, 1.0]]).T)) == 3
    assert torch.isnan(largest_magnitude(torch.tensor([1.0, torch.nan])))


def test_sums_of_blocks_that_differ_in_number_are_refused(monkeypatch):
    monkeypatch.setattr("chita.linalg.sums._BLOCK", 4)
    a = torch.arange(11.0)
    assert (dot(a, a), total(a)) == (385, 55)
    with pytest.raises(ValueError, match="zip"):
        dot(a[:8], a[:4])
    assert (dot(a[:0], a[:0]), total(a[:0])) == (0, 0)
