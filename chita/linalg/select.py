"""Selection of the largest values, without sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from chita.errors import NumericalError

_MANY = 50_000  # values, of which a sample is worth its time
_SAMPLE = 4096
_HALVINGS = 3  # of the bounds from a sample


def kth_largest(values: Tensor, k: int) -> Tensor:
    """Return the k-th largest entry (1 <= k <= p) of `values` (p,) as a scalar tensor.

    On a CPU by NumPy, for the types that it knows. A sample of many values gives two bounds,
    between which it lies most probably; counting checks that, and only what lies between is
    searched.

    >>> kth_largest(torch.tensor([3.0, 1.0, 2.0]), 2).item()
    2.0
    """
    if k == 1:
        return values.amax()
    place = values.numel() - k
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        return values.kthvalue(place + 1).values
    array = values.detach().numpy()
    found = _between_bounds(array, k) if len(array) > _MANY else None
    return values.new_tensor(np.partition(array, place)[place] if found is None else found)


def _between_bounds(array: Any, k: int) -> Any:
    """Return the k-th largest; None if a sample does not lead to it (or NaN is in the way)."""
    sample = np.sort(array[:: len(array) // _SAMPLE])
    share = k / len(array)
    middle = len(sample) * (1 - share)
    # The rank in a random sample is binomial: five standard deviations to both sides.
    wide = 5 * (len(sample) * share * (1 - share)) ** 0.5 + 2
    low = sample[max(0, int(middle - wide))]
    high = sample[min(len(sample) - 1, int(middle + wide) + 1)]
    above = np.count_nonzero(array > high)
    finite = np.isfinite(low) and np.isfinite(high)
    for _ in range(_HALVINGS if finite else 0):  # to count is faster than to gather
        between = low + (high - low) / 2
        more = np.count_nonzero(array > between)
        low, high, above = (between, high, above) if more >= k else (low, between, more)
    inside = array[(array >= low) & (array <= high)]
    # `above` entries exceed `high`, so that the rank among those inside is k - above.
    place = len(inside) - (k - above)
    if not 0 <= place < len(inside):
        return None
    inside.partition(place)
    return inside[place]


def largest(values: Tensor, k: int) -> Tensor:
    """Return a mask (p,) of the k largest entries of values (p,), 0 <= k <= p.

    Among equal entries those of lower index are taken.

    Raises `NumericalError` when a value is NaN, since NaN has no rank.

    >>> largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2)
    tensor([ True,  True, False, False])
    """
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = kth_largest(values, k)
    check_ranked(values)
    mask = values >= threshold
    over = int(mask.count_nonzero()) - k
    if over:
        mask[(values == threshold).nonzero().squeeze(1)[-over:]] = False
    return mask


def filled(mask: Tensor, values: Tensor, k: int) -> Tensor:
    """Return a mask of k entries: those of `mask` (p,), and the largest of the other values (p,).

    >>> filled(torch.tensor([True, False, False]), torch.tensor([0.0, 1.0, 2.0]), 2)
    tensor([ True, False,  True])
    """
    more = k - int(mask.count_nonzero())
    if more == 0:
        return mask
    free = (~mask).nonzero().squeeze(1)
    return mask.index_put((free,), largest(values[free], more))


def first_of_largest(values: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` largest values, or of all, the largest first.

    Among equal values those of lower position come first. Only what is returned is sorted.

    >>> first_of_largest(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3)
    tensor([1, 3, 0])
    """
    if not 0 < count < len(values):
        return values.argsort(descending=True, stable=True)[:count]
    found = largest(values, count).nonzero().squeeze(1)
    return found[values[found].argsort(descending=True, stable=True)]


def check_ranked(values: Tensor) -> None:
    """Raise `NumericalError` when a value is NaN, which has no rank.

    >>> check_ranked(torch.tensor([1.0]))
    """
    if values.numel() and bool(torch.isnan(values.amax())):
        raise NumericalError(
            "Scores hold NaN, which has no rank. The weights or the gradients are not finite: "
            "check the model and lower `first_order` or raise `ridge`."
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
