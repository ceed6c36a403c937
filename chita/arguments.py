"""Checks of arguments at the border, with one message each."""

from __future__ import annotations

import math
import operator
from numbers import Real

from chita.errors import InputError


def whole_number(name: str, value: object, *, at_least: int, meaning: str) -> int:
    """Return a whole number (Python's, NumPy's or a tensor's) as an int.

    Raises `InputError` when it is none, or below `at_least`.

    >>> whole_number("rows", 3, at_least=1, meaning="gradients collected")
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < at_least:
        raise InputError(
            f"{name} is {value!r}; it is the number of {meaning}, a whole number of at least "
            f"{at_least}."
        )
    return number


def real_number(name: str, value: object, *, meaning: str) -> float:
    """Return a finite number as a float.

    Raises `InputError` when it is none.

    >>> real_number("first_order", 1, meaning="the scale of the first-order term")
    1.0
    """
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError(f"{name} is {value!r}; it is {meaning}, a finite number.")
