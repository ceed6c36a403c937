import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chita.errors import NumericalError
from chita.linalg.select import (
    _between_bounds,
    as_it_lies,
    first_of_largest,
    kth_largest,
    largest,
)

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), min_size=1, max_size=30)


@given(scores, st.data())
def test_largest_is_a_stable_sort_by_falling_score(values, data):
    k = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor(values)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    mask = largest(tensor, k)
    assert mask.nonzero().squeeze(1).tolist() == sorted(expected)


@given(scores, st.integers(0, 40))
def test_the_first_of_the_largest_are_those_of_a_stable_sort(values, count):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert first_of_largest(torch.tensor(values), count).tolist() == expected


def test_ties_among_many_values_come_in_order():
    values = torch.randint(0, 5, (100_000,), generator=torch.Generator().manual_seed(0)).float()
    expected = (-values.numpy()).argsort(kind="stable")[:70_000]
    assert first_of_largest(values, 70_000).tolist() == expected.tolist()


def test_nan_has_no_rank():
    values = torch.tensor([1.0, float("nan"), 2.0])
    with pytest.raises(NumericalError, match="NaN"):
        largest(values, 1)


@pytest.mark.parametrize("kind", ["smooth", "ties", "sorted", "equal", "infinite"])
@pytest.mark.parametrize("size", [60, 999, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_kth_of_many_is_that_of_a_sort(kind, size, dtype, monkeypatch):
    monkeypatch.setattr("chita.linalg.select._MANY", 50)
    monkeypatch.setattr("chita.linalg.select._SAMPLE", 40)
    values = torch.randn(size, generator=torch.Generator().manual_seed(size))
    if kind == "ties":
        values = (2 * values).round()
    if kind == "sorted":
        values = values.sort().values
    if kind == "equal":
        values = torch.ones(size)
    if kind == "infinite":
        values[::3] = torch.inf
    values = values.to(dtype)
    expected = values.sort(descending=True).values
    for k in {1, 2, size // 10, size // 2, size - 1, size}:
        assert torch.equal(kth_largest(values, k), expected[k - 1])
        broken = values.index_fill(0, torch.tensor([size // 3]), torch.nan)
        with pytest.raises(NumericalError, match="NaN"):
            largest(broken, k)


def test_bounds_from_a_sample_leave_little_to_search():
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).abs()
    expected = values.sort(descending=True).values
    for k in (4_000, 40_000, 200_000, 390_000):
        found = _between_bounds(values.numpy(), k)
        assert found is not None
        assert float(found) == float(expected[k - 1])


def test_bounds_hold_every_rank_of_evenly_spread_values(monkeypatch):
    """Values that a halving meets exactly, and a sample that is a perfect one."""
    monkeypatch.setattr("chita.linalg.select._SAMPLE", 40)
    values = torch.arange(801.0).div(4, rounding_mode="floor")  # the first and last are sampled
    expected = values.sort(descending=True).values
    for k in range(1, 802):
        found = _between_bounds(values.numpy(), k)
        assert found is not None
        assert float(found) == float(expected[k - 1])


def test_a_sample_that_misses_the_largest_leads_nowhere(monkeypatch):
    monkeypatch.setattr("chita.linalg.select._SAMPLE", 40)
    values = torch.zeros(400)
    values[1:4] = torch.tensor([3.0, 5.0, 4.0])  # the sample is every tenth
    for k in (2, 3):
        assert _between_bounds(values.numpy(), k) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_many_values_are_searched_between_bounds(dtype, monkeypatch):
    monkeypatch.setattr("chita.linalg.select._MANY", 50)
    monkeypatch.setattr("chita.linalg.select._between_bounds", lambda array, k: 7.0)
    assert kth_largest(torch.zeros(51, dtype=dtype), 3) == 7
    assert kth_largest(torch.zeros(50, dtype=dtype), 3) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_a_tensor_as_it_lies_is_contiguous(order):
    assert as_it_lies(torch.zeros(2, 3, 4).permute(order)).is_contiguous()
