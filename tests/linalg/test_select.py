import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chita.errors import NumericalError
from chita.linalg.select import _between_bounds, first_of_largest, kth_largest, largest

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), min_size=1, max_size=30)


@given(scores, st.data())
def test_largest_is_a_stable_sort_by_falling_score(values, data):
    k = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor(values)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    mask = largest(tensor, k, kth_largest(tensor, k))
    assert mask.nonzero().squeeze(1).tolist() == sorted(expected)


@given(scores, st.integers(0, 40))
def test_the_first_of_the_largest_are_those_of_a_stable_sort(values, count):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert first_of_largest(torch.tensor(values), count).tolist() == expected


def test_nan_has_no_rank():
    values = torch.tensor([1.0, float("nan"), 2.0])
    with pytest.raises(NumericalError, match="NaN"):
        largest(values, 1, kth_largest(values, 1))


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
        found = kth_largest(broken, k)
        with pytest.raises(NumericalError, match="NaN"):
            largest(broken, k, found)


def test_bounds_from_a_sample_leave_little_to_search():
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).abs()
    expected = values.sort(descending=True).values
    for k in (4_000, 40_000, 200_000, 390_000):
        found = _between_bounds(values.numpy(), k)
        assert found is not None
        assert float(found) == float(expected[k - 1])
