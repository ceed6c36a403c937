"""Selection of the largest values, without sorting."""

from __future__ import annotations

import torch
from torch import Tensor

from chita.errors import NumericalError

_MANY = 100_000  # values, of which a sample is worth its time
_SAMPLE = 16_384


def kth_largest(values: Tensor, k: int) -> Tensor:
    """Return the k-th largest entry (1 <= k <= p) of `values` (p,) as a scalar tensor.

    Of many values a sample tells two bounds, between which it lies most probably; counting checks
    that, and only what lies between them is searched.

    >>> kth_largest(torch.tensor([3.0, 1.0, 2.0]), 2).item()
    2.0
    """
    found = _between_bounds(values, k) if values.numel() > _MANY else None
    return _kth(values, k) if found is None else found


def _kth(values: Tensor, k: int) -> Tensor:
    return values.kthvalue(values.numel() - k + 1).values


def _between_bounds(values: Tensor, k: int) -> Tensor | None:
    """The k-th largest, None where a sample does not lead to it."""
    sample = values[:: values.numel() // _SAMPLE].sort(descending=True).values
    count = len(sample)
    expected = k / values.numel() * count
    spread = 5 * (expected * (1 - expected / count)) ** 0.5 + 2
    first, last = int(expected - spread), int(expected + spread) + 1
    above, inside = 0, torch.ones_like(values, dtype=torch.bool)
    if first >= 0:
        inside &= values <= sample[first]
        above = int((values > sample[first]).sum())
    if last < count:
        inside &= values >= sample[last]
    inside = values[inside]
    rest = k - above
    return _kth(inside, rest) if 1 <= rest <= len(inside) < values.numel() // 2 else None


def largest(values: Tensor, k: int, threshold: Tensor) -> Tensor:
    """Return a mask (p,) of exactly k entries, given the k-th largest value as `threshold`.

    Among entries equal to the threshold those of lower index are taken.

    Raises `NumericalError` when a value is NaN, since NaN has no rank.

    >>> largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2, torch.tensor(1.0))
    tensor([ True,  True, False, False])
    """
    check_ranked(values)
    mask = values > threshold
    ties = (values == threshold).nonzero().squeeze(1)
    mask[ties[: k - int(mask.sum())]] = True
    return mask


def first_of_largest(values: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` largest values, or of all, the largest first.

    Among equal values those of lower position come first. Only what is returned is sorted.

    >>> first_of_largest(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3)
    tensor([1, 3, 0])
    """
    if not 0 < count < len(values):
        return values.argsort(descending=True, stable=True)[:count]
    found = largest(values, count, kth_largest(values, count)).nonzero().squeeze(1)
    return found[values[found].argsort(descending=True, stable=True)]


def check_ranked(values: Tensor) -> None:
    """Raise `NumericalError` when a value is NaN, which has no rank.

    >>> check_ranked(torch.tensor([1.0]))
    """
    if torch.isnan(values).any():
        raise NumericalError(
            "Scores hold NaN, which has no rank. The weights or the gradients are not finite: "
            "check the model and lower first_order or raise ridge."
        )


def largest_magnitude(tensor: Tensor) -> Tensor:
    """Return the largest absolute value as a scalar tensor, NaN if there is one; one pass.

    >>> largest_magnitude(torch.tensor([[1.0, -3.0], [2.0, 0.0]]))
    tensor(3.)
    """
    return torch.stack(torch.aminmax(as_it_lies(tensor))).abs().amax()


def as_it_lies(tensor: Tensor) -> Tensor:
    """Return a view with the dimensions in the order of memory, in which reductions are fast.

    >>> as_it_lies(torch.zeros(2, 3).T).shape
    torch.Size([2, 3])
    """
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
