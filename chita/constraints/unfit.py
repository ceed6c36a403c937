"""One message for layers whose shape a pattern does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from chita.errors import InputError

_LISTED = 8  # tensors told by name


def check_fits(needs: str, unfit: Mapping[str, str]) -> None:
    """Raise `InputError` that lists unfit tensors, as `ignore` leaves them out.

    >>> check_fits("2:4 needs a number of inputs that 4 divides", {})
    """
    if not unfit:
        return
    some = dict(list(unfit.items())[:_LISTED])
    listed = ", ".join(f"{name} has {what}" for name, what in some.items())
    names = ", ".join(some)
    if len(unfit) > len(some):
        listed += f", and so on, {len(unfit)} in all"
        names += " and so on"
    raise InputError(f"{needs}: {listed}. Leave them out with `ignore`: {names}.")
