"""Values stored in half as many bits or fewer: rounded to the nearest, and back unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chita.sparse_file.types import BY_NAME, Bits, NumberType

NARROW = tuple(BY_NAME[name] for name in ("float16", "bfloat16"))
WIDE = tuple(BY_NAME[name] for name in ("float32", "float64"))
_LARGEST = {"float16": 65504.0, "bfloat16": float.fromhex("0x1.fep127")}
_MAGNITUDE = np.uint16(0x7FFF)  # all bits but the sign


def narrows(kind: NumberType, values: NumberType) -> bool:
    """Return whether numbers of a type may be stored as values of another, narrower one."""
    return kind in WIDE and values in NARROW


def unfit(bits: Bits, kind: NumberType, values: NumberType) -> int:
    """Return how many numbers are NaN, or finite and above the narrow type's largest number.

    Infinities are exact in both.
    """
    numbers = np.abs(_floats(bits, kind))
    return int(np.count_nonzero(~(numbers <= _LARGEST[values.name]) & (numbers != np.inf)))


def narrowed(bits: Bits, kind: NumberType, values: NumberType) -> tuple[Bits, int]:
    """Return numbers rounded to the nearest, ties to even, and how many of them were raised.

    What would round to zero, and is not, is raised to the smallest number of its sign, so that the
    same places are zero as before. From float64 the rounding is by way of float32.
    """
    floats = _floats(bits, kind)
    with np.errstate(under="ignore"):
        single = floats.astype(np.float32)
        if values.name == "float16":
            found = single.astype(np.float16).view(np.uint16)
        else:
            wide = single.view(np.uint32)
            even = (wide >> np.uint32(16)) & np.uint32(1)
            found = ((wide + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    present = (bits << bits.dtype.type(1)) != 0  # by bits: a processor may take the tiny for zero
    raised = present & ((found & _MAGNITUDE) == 0)
    return (found | raised).astype("<u2"), int(np.count_nonzero(raised))


def widened(bits: Bits, kind: NumberType, values: NumberType) -> Bits:
    """Return stored values as bits of the tensor's own type, each exactly the same number."""
    if kind == values:
        return bits
    if values.name == "float16":
        single = bits.view(np.float16).astype(np.float32)
    else:
        single = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return single.astype(f"<f{kind.width}").view(kind.bits)


def _floats(bits: Bits, kind: NumberType) -> NDArray[Any]:
    return bits.view(f"<f{kind.width}")
