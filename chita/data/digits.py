"""scikit-learn's 8 x 8 digits: real data that need no download."""

from __future__ import annotations

import numpy as np
import torch

from chita.data.examples import Examples

_EVALUATION = 500  # of 1,797 samples


def digits() -> tuple[Examples, Examples]:
    """Return 1,297 calibration (training) and 500 evaluation samples.

    Inputs are (N, 1, 8, 8) float32 in [-1, 1]; targets are classes 0 to 9. The split is a fixed
    shuffle. Source: the UCI optical recognition test set, as bundled with scikit-learn.
    """
    # Here, since this import takes most of a second and few runs need it.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    images = torch.from_numpy(bunch.images[order]).to(torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(bunch.target[order]).to(torch.int64)
    return (
        Examples((images[_EVALUATION:], labels[_EVALUATION:])),
        Examples((images[:_EVALUATION], labels[:_EVALUATION])),
    )
