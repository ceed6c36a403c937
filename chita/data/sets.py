"""Data by what users name them: a known set, a file or folder, a function of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chita.data.batches import Data
from chita.data.digits import digits
from chita.data.images import image_folders
from chita.data.lines import PREFIX, is_text
from chita.data.tensors import SUFFIXES, tensor_file
from chita.data.vision import mnist
from chita.errors import InputError
from chita.image_format import ImageFormat
from chita.imports import called, is_import
from chita.naming import nearest

DATASETS: dict[str, Callable[[Path], tuple[Data, Data]]] = {
    "digits": lambda data_dir: digits(),
    "mnist": mnist,
}
"""Every named data set: a folder to (calibration, evaluation). Built-in ones ignore the folder."""


def load_dataset(
    name: str,
    data_dir: Path | None = None,
    images: ImageFormat | None = None,
    text: Callable[[str], tuple[Data, Data]] | None = None,
) -> tuple[Data, Data | None]:
    """Return (calibration, evaluation) of data; evaluation is None where a function gives none.

    Args:
        name: a name in `DATASETS`; a folder or zip file of image class folders; text, in files or
            as `datasets:PATH_OR_ID` (`chita.data.lines`); a file of tensors (`.npz`, `.pt`,
            `.safetensors`); or `package.module:function`, which is called without arguments and
            returns the two.
        data_dir: where the files of a named set lie.
        images: the form in which the network takes images.
        text: reads text by its name, for a network that takes text.

    Raises `InputError` on anything else, and what the reader of those files raises.
    """
    if name in DATASETS:
        return DATASETS[name](data_dir or Path())
    path = Path(name)
    kind = path.suffix.lower()
    if is_text(name) and (path.exists() or name.startswith(PREFIX)):
        if text is None:
            raise InputError(
                f"{name} is text, and this network comes with no tokenizer. Give a network "
                "hf:PATH, or data of your own by package.module:function."
            )
        return text(name)
    if path.is_dir() or (path.is_file() and kind == ".zip"):
        return image_folders(path, images or ImageFormat())
    if path.is_file() and kind in SUFFIXES:
        return tensor_file(path)
    if is_import(name):
        return _pair(name, called(name))
    if path.is_file():
        kinds = ", ".join([".zip", *SUFFIXES])
        raise InputError(f"{name} is a file of no known kind; known: {kinds}.")
    if path.parent != Path() or path.suffix:
        raise InputError(f"The data {name} do not exist. Check `data`.")
    raise InputError(
        f"Unknown data {name!r}. {nearest(name, DATASETS)} Or give a folder or zip of images, a "
        "file of tensors, or package.module:function."
    )


def _pair(name: str, given: Any) -> tuple[Data, Data | None]:
    if isinstance(given, tuple) and len(given) == 2 and given[0] is not None:
        return given
    raise InputError(
        f"{name} returned a {type(given).__name__}; it must return (calibration, evaluation), "
        "where evaluation may be None."
    )
