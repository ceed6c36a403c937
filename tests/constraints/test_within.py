import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chita.constraints import KeepK, Within
from chita.errors import InputError


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_the_choice_is_the_best_of_all_masks_inside(data):
    size = data.draw(st.integers(2, 7))
    inside = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    k = data.draw(st.integers(0, int(inside.sum())))
    scores = torch.tensor(
        data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    ).double()
    within = Within(constraint=KeepK(size=size, k=k), mask=inside)
    found = within.select(scores.sqrt())
    masks = (torch.tensor([bool(i >> j & 1) for j in range(size)]) for i in range(2**size))
    allowed = [m for m in masks if within.allows(m)]
    assert within.allows(found)
    assert all(int(m.sum()) == k and not (m & ~inside).any() for m in allowed)
    assert scores[found].sum() == max(scores[m].sum() for m in allowed)


def test_floors_hold_inside():
    floors = KeepK(size=4, k=2, segments=(slice(0, 2), slice(2, 4)), least=(1, 1))
    within = Within(constraint=floors, mask=torch.tensor([True, True, False, True]))
    scores = torch.tensor([3.0, 2.0, 9.0, 0.0])
    assert within.select(scores).tolist() == [True, False, False, True]


def test_swaps_bring_in_nothing_from_outside():
    within = Within(constraint=KeepK(size=4, k=1), mask=torch.tensor([True, True, False, False]))
    mask = torch.tensor([True, False, False, False])
    out, enter = torch.tensor([0]), torch.tensor([1, 2, 3])
    assert within.swaps(mask, out, enter).tolist() == [[True, False, False]]
    part = within.restrict(torch.tensor([1, 2]), torch.tensor([], dtype=torch.int64))
    assert part.select(torch.tensor([1.0, 5.0])).tolist() == [True, False]


def test_sizes_must_agree():
    with pytest.raises(InputError, match="mask of 3 weights does not belong"):
        Within(constraint=KeepK(size=4, k=1), mask=torch.ones(3, dtype=torch.bool))
