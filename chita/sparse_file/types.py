"""The types of numbers that a sparse file knows, and tensors as the bits of their numbers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bits = NDArray[Any]
"""Numbers of a tensor as unsigned integers (numel,) of the same width, so that all bits count."""


@final
@dataclass(frozen=True)
class NumberType:
    """A type of numbers: its `code` in a file, PyTorch's `name` for it, its `width` in bytes."""

    code: int
    name: str
    width: int

    @property
    def bits(self) -> np.dtype[Any]:
        """The unsigned integer of this width, little-endian."""
        return np.dtype(f"<u{self.width}")

    @property
    def torch(self) -> torch.dtype | None:
        """PyTorch's type, None where the installed PyTorch has none of that name."""
        found = getattr(torch, self.name, None)
        return found if isinstance(found, torch.dtype) else None


_NAMES = (
    *(("float64", 8), ("float32", 4), ("float16", 2), ("bfloat16", 2)),
    *(("int64", 8), ("int32", 4), ("int16", 2), ("int8", 1)),
    *(("uint64", 8), ("uint32", 4), ("uint16", 2), ("uint8", 1)),
    *(("bool", 1), ("complex64", 8)),
    *(("float8_e4m3fn", 1), ("float8_e5m2", 1)),
    *(("float8_e4m3fnuz", 1), ("float8_e5m2fnuz", 1)),
    *(("float8_e8m0fnu", 1), ("float4_e2m1fn_x2", 1)),  # the latter holds two numbers in a byte
)
TYPES = tuple(NumberType(code, *name) for code, name in enumerate(_NAMES, start=1))
BY_CODE = {kind.code: kind for kind in TYPES}
BY_NAME = {kind.name: kind for kind in TYPES}
BOOL = BY_NAME["bool"]
LITTLE_ENDIAN = sys.byteorder == "little"
"""Whether numbers lie in memory as they do in a file. Elsewhere no file is written or read."""


def type_of(tensor: Tensor) -> NumberType | None:
    """Return the type of a tensor's numbers; None where a sparse file does not know it."""
    return BY_NAME.get(str(tensor.dtype).removeprefix("torch."))


def bits_of(tensor: Tensor) -> Bits:
    """Return the numbers of a tensor in row-major order as bits; a view where they lie so."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    kind = type_of(tensor)
    assert kind is not None
    signed = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.width]
    found: Bits = plain.view(signed).numpy()
    return found.view(kind.bits)


def tensor_of(bits: Bits, kind: NumberType, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of such bits, in the same memory."""
    assert kind.torch is not None
    if not len(bits):
        return torch.empty(shape, dtype=kind.torch)  # strides as of any other such tensor
    signed = np.dtype(f"i{kind.width}") if kind.width > 1 else np.dtype("u1")
    return torch.from_numpy(bits.view(signed)).view(kind.torch).reshape(shape)
