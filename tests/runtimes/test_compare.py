"""How far outputs are apart."""

import pytest
import torch

from chita.runtimes.compare import TOLERANCE, difference

A = torch.tensor([1.0, -10.0, 3.0])


def test_a_share_of_the_largest():
    found = difference({"a": A, "b": A}, {"a": A, "b": A + torch.tensor([0.0, 0.0, 5e-4])})
    assert found.output == "b"
    assert found.value == pytest.approx(5e-5, rel=1e-2)
    assert found.within()
    assert not difference({"a": A}, {"a": A + 11 * TOLERANCE}).within()


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"b": A},
        {"a": A[:2]},
        {"a": A.reshape(1, 3)},
        {"a": torch.tensor([1.0, -10.0, torch.nan])},
    ],
)
def test_what_cannot_be_compared_is_infinitely_far(found):
    assert difference({"a": A}, found).value == float("inf")


def test_values_that_are_not_finite_agree_with_themselves():
    odd = torch.tensor([torch.inf, torch.nan, 1.0])
    assert difference({"a": odd}, {"a": odd.clone()}).value == 0
    assert difference({"a": odd}, {"a": torch.tensor([torch.inf, torch.nan, 2.0])}).value == 1
    assert difference({"a": torch.zeros(2)}, {"a": torch.zeros(2)}).value == 0
    assert not difference({"a": torch.zeros(2)}, {"a": torch.full((2,), 1e-3)}).within()
    assert difference({"a": torch.zeros(0)}, {"a": torch.zeros(0)}).value == 0
