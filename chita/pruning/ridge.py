"""λ as users ask for it: a number, a multiple of the mean curvature, or auto."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from chita.errors import InputError, NumericalError

if TYPE_CHECKING:
    from chita.problem import Curvature

AUTO = "auto"


@final
@dataclass(frozen=True, kw_only=True)
class Ridge:
    """λ as asked for: `value`, or where `relative`, `value` times the mean of H's diagonal.

    >>> Ridge.parse("0.1x")
    Ridge(value=0.1, relative=True)
    """

    value: float
    relative: bool

    @classmethod
    def parse(cls, ridge: float | str) -> Ridge:
        """Return the ridge of a number, or of a text such as "0.1x".

        Raises `InputError` on anything else, and on what is negative or not finite.
        """
        text = str(ridge).strip()
        try:
            value = float(text.removesuffix("x"))
        except ValueError:
            value = math.nan
        if 0 <= value < math.inf:
            return cls(value=value, relative=text.endswith("x"))
        raise InputError(
            f"`ridge` is {ridge!r}; give a number >= 0, a multiple of the mean curvature such as "
            '"0.1x", or "auto".'
        )

    def of(self, curvature: Curvature) -> float:
        """Return λ for a curvature.

        Raises `NumericalError` when the diagonal is too small to have a multiple.
        """
        if not self.relative:
            return self.value
        ridge = self.value * float(curvature.diagonal().double().mean())
        if self.value > 0 and ridge == 0 and curvature.informed:
            raise NumericalError(
                "The gradients are so small that their squares vanish, so a multiple of their mean "
                "is no ridge. Scale the loss up, or give `ridge` as a number."
            )
        return ridge
