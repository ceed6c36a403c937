"""The types of numbers that a sparse file knows, and tensors as the bits of their numbers."""

from __future__ import annotations

import sys
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

Bits = NDArray[Any]
"""Numbers of a tensor as unsigned integers (numel,) of the same width, so that all bits count."""

LITTLE_ENDIAN = sys.byteorder == "little"
"""True if numbers lie in memory as they do in a file. Elsewhere no file is written or read."""

WIDE = ("float32", "float64")
NARROW = ("float16", "bfloat16")
PLAIN = (*WIDE, *NARROW, "int64", "int32", "int16", "int8", "uint8", "bool")
"""Types that every loader of safetensors reads."""
_AS_INTEGERS = (
    *("uint64", "uint32", "uint16", "complex64", "float8_e4m3fn", "float8_e5m2"),
    *("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
)
TYPES = (*PLAIN, *_AS_INTEGERS)
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by width


def type_name(dtype: torch.dtype) -> str:
    """Return PyTorch's name of a type.

    >>> type_name(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")


def container(name: str) -> torch.dtype:
    """Return the type in which safetensors holds numbers of a type: their own, or integers."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype if name in PLAIN else _INTEGERS[dtype.itemsize]


def bits_of(tensor: Tensor) -> Bits:
    """Return the numbers of a tensor in row-major order as bits; a view where they lie so."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    found: Bits = plain.view(_INTEGERS[plain.itemsize]).numpy()
    return found.view(f"<u{plain.itemsize}")


def tensor_of(bits: Bits, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of such bits, in the same memory."""
    if not len(bits):
        return torch.empty(shape, dtype=dtype, device="cpu")  # strides as of any other such tensor
    signed = bits if bits.itemsize == 1 else bits.view(f"<i{bits.itemsize}")
    return torch.from_numpy(signed).view(dtype).reshape(shape)
