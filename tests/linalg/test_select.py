import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chita.errors import NumericalError
from chita.linalg.select import first_of_largest, kth_largest, largest

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
