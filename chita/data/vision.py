"""Image data sets in their original files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chita.data.examples import Examples
from chita.errors import InputError, failures_as

_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MEAN, _STD = 0.1307, 0.3081
_LARGEST = 1 << 28  # bytes of one unpacked file, against a decompression bomb


def mnist(data_dir: Path) -> tuple[Examples, Examples]:
    """Return MNIST's 60,000 training and 10,000 test samples, in their original order.

    Reads the four idx files, each plain or gzipped (`.gz`), in `data_dir` or in its `MNIST/raw`.
    Inputs are (N, 1, 28, 28) float32, (x/255 - 0.1307)/0.3081; targets are classes 0 to 9.

    Raises `InputError` that names the four files when one is absent, or the file that is damaged.
    """
    for folder in (data_dir, data_dir / "MNIST" / "raw"):
        found = [_find(folder, name) for name in _MNIST_FILES]
        paths = [path for path in found if path is not None]
        if len(paths) == len(_MNIST_FILES):
            train_x, train_y, test_x, test_y = map(_read_idx, paths)
            return _examples(train_x, train_y), _examples(test_x, test_y)
    raise InputError(
        f"MNIST was not found in {data_dir} or in {data_dir / 'MNIST' / 'raw'}. Expected there: "
        f"{', '.join(_MNIST_FILES)}; each plain or with .gz. Name their folder with `data_dir`."
    )


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


def _read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes: two zeros, type 8, rank r, then r sizes as big-endian u32."""
    with (
        failures_as(InputError, f"{path} cannot be read", "Fetch the file again."),
        gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file,
    ):
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise InputError(f"{path} unpacks to more than {_LARGEST} bytes; it is not MNIST.")
    rank = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * rank
    whole = rank > 0 and len(content) >= start
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if whole else ()
    if not whole or math.prod(shape) != len(content) - start:
        raise InputError(
            f"{path} is not an idx file of bytes, or is cut off. Fetch the file again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _examples(images: Tensor, labels: Tensor) -> Examples:
    inputs = ((images.to(torch.float32) / 255 - _MEAN) / _STD).unsqueeze(1)
    return Examples((inputs, labels.to(torch.int64)))
