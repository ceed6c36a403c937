"""What this machine has."""

from __future__ import annotations

import os
import platform
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_STATM = Path("/proc/self/statm")
_PAGE = 4096  # bytes, at most, that come at once where pages are not large

EFFICIENCY = 0.16
"""Speed of a network's layers beside that of large matrix products."""

LOADED_LATER = 30e6
"""Bytes of code that PyTorch loads when it is first used."""


def available_memory() -> int | None:
    """Return the bytes of memory that could be used now without swapping, None where unknown."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def resident_memory() -> int:
    """Return the bytes of memory that this process holds now, 0 where unknown."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return 0


def processor() -> str:
    """Return the name of the processor, or of its kind where the system says no more."""
    try:
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def solving_device(device: torch.device) -> torch.device:
    """Return where problems of a network on `device` are solved: there, if it knows float64.

    Apple's GPU (mps) does not, and shares its memory with the CPU, which then solves.
    """
    return torch.device("cpu") if device.type == "mps" else device


def at_once(entries: int, device: torch.device) -> int:
    """Return how many entries to work on together where `entries` are best for a CPU's cache.

    64 times as many on a GPU, where a small step takes as long as a large one.
    """
    return entries if device.type == "cpu" else 64 * entries


def large_matrix(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a matrix for much data, whatever it holds.

    On the CPU its memory comes from NumPy, which asks Linux for pages of 2 MB: columns that are
    written or gathered one by one then cost a fifth of the time that they do in pages of 4 kB. It
    is touched once, by all cores, since a page is slow to write to for the first time.
    """
    if device.type != "cpu" or not rows * columns:
        return torch.empty(rows, columns, dtype=dtype, device=device)
    stored = torch.from_numpy(np.empty(rows * columns * dtype.itemsize, dtype=np.uint8))
    stored[::_PAGE] = 0
    return stored.view(dtype).view(rows, columns)


@final
@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast this machine is.

    `stream`: bytes read per second by a product with one vector; `flops`: float32 operations per
    second in large matrix products.
    """

    stream: float
    flops: float


def speed() -> Speed:
    """Measure this machine for a twentieth of a second, in float32 on the CPU."""
    matrix, vector, square = (
        torch.ones(shape, dtype=torch.float32, device="cpu")
        for shape in ((16384, 1024), (1024,), (768, 768))
    )
    return Speed(
        stream=matrix.numel() * 4 / _fastest(lambda: matrix @ vector),
        flops=2 * 768**3 / _fastest(lambda: square @ square),
    )


def _fastest(run: Callable[[], object]) -> float:
    run()
    return max(min(timeit.repeat(run, number=1, repeat=5)), 1e-9)
