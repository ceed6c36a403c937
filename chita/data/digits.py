"""8 x 8 pictures of digits: real data that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from chita.data.examples import Examples

_FILE = Path(__file__).with_suffix(".npz")  # its source and licence stand in digits.md
_EVALUATION = 500  # of 1,797 samples


def digits() -> tuple[Examples, Examples]:
    """Return 1,297 calibration (training) and 500 evaluation samples.

    Inputs are (N, 1, 8, 8) float32 in [-1, 1]; targets are classes 0 to 9. The split is a fixed
    shuffle. Source: the UCI optical recognition test set, in the order of scikit-learn's copy.
    """
    with np.load(_FILE) as file:
        pixels, classes = file["images"], file["labels"]
    order = np.random.RandomState(0).permutation(len(classes))
    images = torch.from_numpy(pixels[order]).to(torch.float32).view(-1, 1, 8, 8) / 8 - 1
    labels = torch.from_numpy(classes[order]).to(torch.int64)
    return (
        Examples((images[_EVALUATION:], labels[_EVALUATION:])),
        Examples((images[:_EVALUATION], labels[:_EVALUATION])),
    )
