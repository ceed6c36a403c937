"""Whole numbers in given proportions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from chita.errors import InputError


def apportion(
    total: int, shares: Sequence[int], most: Sequence[int], least: Sequence[int]
) -> list[int]:
    """Return whole numbers that sum to `total`, proportional to `shares` within their bounds.

    Numbers at a bound stay there, and the free numbers share what is left; the largest remainders
    are rounded up, the first among equals. All in exact arithmetic.

    Raises `InputError` when the bounds leave no such numbers.

    >>> apportion(10, [1, 1, 1], most=[2, 9, 9], least=[0, 0, 0])
    [2, 4, 4]
    """
    if not sum(least) <= total <= sum(most):
        raise InputError(
            f"{total} weights are to be kept over {len(most)} tensors, which hold {sum(most)} and "
            f"keep {sum(least)} at least. Change `sparsity`, `nnz` or `min_keep`."
        )
    # Without bounds the numbers are total·share/whole. One that breaks a bound is fixed there, and
    # the free ones share what remains, as water finds its level; each round fixes at least one.
    fixed: dict[int, int] = {}
    while True:
        free = [i for i in range(len(shares)) if i not in fixed]
        left = total - sum(fixed.values())
        whole = sum(shares[i] for i in free)
        ideal = {i: Fraction(left * shares[i], whole or 1) for i in free}
        over = {i: most[i] for i in free if ideal[i] > most[i]}
        under = {i: least[i] for i in free if ideal[i] < least[i]}
        # Fixing those above raises the free ones, and fixing those below lowers them. So only the
        # side that is further off in sum is certain to stay at its bound; the other may come back.
        excess = sum(ideal[i] - most[i] for i in over) - sum(least[i] - ideal[i] for i in under)
        if not over and not under:
            break
        fixed |= over if excess >= 0 and over else under or over
    # Rounding down leaves fewer than one per free number: the largest remainders get one each.
    found = {**fixed, **{i: int(ideal[i]) for i in free}}
    by_remainder = sorted(free, key=lambda i: (int(ideal[i]) - ideal[i], i))
    for i in by_remainder[: total - sum(found.values())]:
        found[i] += 1
    return [found[i] for i in range(len(shares))]
