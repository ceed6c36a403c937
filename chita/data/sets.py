"""The table of named data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chita.data.digits import digits
from chita.data.examples import Examples
from chita.data.vision import mnist
from chita.errors import InputError
from chita.naming import nearest

DATASETS: dict[str, Callable[[Path], tuple[Examples, Examples]]] = {
    "digits": lambda data_dir: digits(),
    "mnist": mnist,
}
"""Every named data set: a folder to (calibration, evaluation). Built-in ones ignore the folder."""


def load_dataset(name: str, data_dir: Path | None = None) -> tuple[Examples, Examples]:
    """Return (calibration, evaluation) of a named data set.

    Raises `InputError` on an unknown name, and what the data set's own reader raises.
    """
    if name not in DATASETS:
        raise InputError(f"Unknown data {name!r}. {nearest(name, DATASETS)}")
    return DATASETS[name](data_dir or Path())
