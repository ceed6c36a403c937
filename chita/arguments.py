"""Checks of arguments at the border, with one message each."""

from __future__ import annotations

import operator

from chita.errors import InputError


def whole(value: object) -> int | None:
    """Return a whole number (Python's, NumPy's or a tensor's) as an int, None for anything else.

    >>> whole(3), whole(True), whole(3.0)
    (3, None, None)
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def whole_number(name: str, value: object, *, at_least: int, meaning: str) -> int:
    """Return a whole number as an int.

    Raises `InputError` when it is not, or below `at_least`.

    >>> whole_number("batch", 3, at_least=1, meaning="samples in a call")
    3
    """
    number = whole(value)
    if number is None or number < at_least:
        raise InputError(
            f"{name} is {value!r}; it is the number of {meaning}, a whole number of at least "
            f"{at_least}."
        )
    return number
