"""How far outputs are apart."""

import pytest
import torch

from chita.runtimes.compare import TOLERANCE, difference

A = torch.tensor([1.0, -10.0, 3.0])


def test_a_share_of_the_largest():
    found = difference({"a": A, "b": A}, {"a": A, "b": A + torch.tensor([0.0, 0.0, 5e-4])})
    assert found.output == "b"
    assert found.value == pytest.approx(5e-4 / (3 + 3), rel=1e-2)
    assert found.within()
    assert not difference({"a": A}, {"a": A + 11 * TOLERANCE}).within()
    assert found.within(1e-4)
    assert not found.within(1e-5)


def test_one_huge_value_hides_nothing():
    """As that of logits which are masked."""
    logits = torch.tensor([1.0, 2.0, -1e9])
    assert not difference({"a": logits}, {"a": torch.tensor([1.1, 2.0, -1e9])}).within()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_types_of_few_bits_may_differ_by_their_roundings(kind):
    values = torch.randn(100).to(kind)
    step = torch.finfo(kind).eps * values
    assert difference({"a": values}, {"a": values + step}).within()
    assert not difference({"a": values}, {"a": values + 100 * step}).within()


def test_sizes_of_one_are_not_compared():
    assert difference({"a": A}, {"a": A.view(1, 3, 1)}).value == 0


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"b": A},
        {"a": A[:2]},
        {"a": A.repeat(2, 1)},
        {"a": torch.tensor([1.0, -10.0, torch.nan])},
    ],
)
def test_what_cannot_be_compared_is_infinitely_far(found):
    assert difference({"a": A}, found).value == float("inf")


def test_values_that_are_not_finite_agree_with_themselves():
    odd = torch.tensor([torch.inf, torch.nan, 1.0])
    assert difference({"a": odd}, {"a": odd.clone()}).value == 0
    assert difference({"a": odd}, {"a": torch.tensor([torch.inf, torch.nan, 2.0])}).value == 0.5
    assert difference({"a": torch.zeros(2)}, {"a": torch.zeros(2)}).value == 0
    assert not difference({"a": torch.zeros(2)}, {"a": torch.full((2,), 1e-3)}).within()
    assert difference({"a": torch.zeros(0)}, {"a": torch.zeros(0)}).value == 0
