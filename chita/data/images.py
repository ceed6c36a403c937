"""Images in class folders: `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or `CLASS/*.jpg`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from chita.data.archive import Archive, open_archive
from chita.data.examples import Examples
from chita.data.split import shuffled_split
from chita.errors import InputError, failures_as
from chita.image_format import ImageFormat

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_READERS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # others may run programs
_TRAIN, _TEST = ("train", "training"), ("test", "val", "valid", "validation")
_PIXELS = 1 << 26  # of one image, before it is decoded
_MARGIN = 0.875


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder:
    """Labelled images that are decoded when they are asked for.

    Fields: `archive`; `files`, with one target in `targets` each; `form`, how networks take them.
    """

    archive: Archive
    files: Sequence[PurePosixPath]
    targets: Tensor
    form: ImageFormat

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def take(self, index: Tensor) -> Examples:
        """Return the decoded images (k, channels, size, size) named by index, with targets."""
        images = [self._decoded(self.files[i]) for i in index.tolist()]
        sizes = sorted({tuple(image.shape[1:]) for image in images})
        if len(sizes) > 1:
            raise InputError(
                f"Images have {len(sizes)} sizes, such as {sizes[0]} and {sizes[-1]}. Bring them "
                "to one with `image_size`."
            )
        return Examples((torch.stack(images), self.targets[index]))

    def batches(self, size: int) -> Iterator[Any]:
        """Iterate over consecutive decoded batches."""
        for index in torch.arange(len(self), device="cpu").split(size):
            yield self.take(index).batch

    def _decoded(self, file: PurePosixPath) -> Tensor:
        content = self.archive.read(file)
        with (
            failures_as(InputError, f"{file} is no image that can be read", "Remove it."),
            warnings.catch_warnings(action="ignore"),  # what cannot be read is an error
            Image.open(io.BytesIO(content), formats=_READERS) as image,
        ):
            if image.width * image.height > _PIXELS:
                raise InputError(f"{file} has more than {_PIXELS} pixels; scale it down.")
            if image.mode.startswith(("I", "F")):
                raise InputError(
                    f"{file} has pixels of more than 8 bits ({image.mode}). Write it with 8 bits "
                    "per channel, or give tensors in an .npz file."
                )
            pixels = _fitted(image.convert("RGB" if len(self.form.mean) == 3 else "L"), self.form)
        array = torch.from_numpy(np.array(pixels, dtype=np.float32) / 255)
        array = array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)
        mean, std = (
            torch.tensor(value, dtype=torch.float32, device="cpu").view(-1, 1, 1)
            for value in (self.form.mean, self.form.std)
        )
        return (array - mean) / std


def image_folders(path: Path, form: ImageFormat) -> tuple[ImageFolder, ImageFolder]:
    """Return the calibration and the evaluation images of a folder or zip file.

    With `train` and `test` (or `val`) inside, these; with class folders only, a fifth of the
    images is held out. Classes are numbered in alphabetical order of the calibration folders.

    Raises `InputError` when there are no class folders, or classes that were not trained on.
    """
    archive = open_archive(path, _SUFFIXES)
    files = [f for f in archive.names if not any(part.startswith(".") for part in f.parts)]
    depth = _wrapping(files)
    splits = {f.parts[depth].lower() for f in files if len(f.parts) > depth + 2}
    train, test = ([s for s in names if s in splits] for names in (_TRAIN, _TEST))
    if bool(train) != bool(test):
        raise InputError(
            f"{path} has class folders in {(train or test)[0]}, but none in "
            f"{' or '.join(_TEST if train else _TRAIN)}. Give class folders in both, or class "
            "folders only, of which a fifth of the images is held out."
        )
    parts = [files]
    if train:
        sides = train[0], test[0]
        parts = [[f for f in files if f.parts[depth].lower() == side] for side in sides]
        depth += 1
    labelled = [[f for f in part if len(f.parts) > depth + 1] for part in parts]
    classes = sorted({file.parts[depth] for file in labelled[0]})
    if len(classes) < 2 or {name.lower() for name in classes} <= {*_TRAIN, *_TEST}:
        raise InputError(
            f"{path} has fewer than two class folders with images ({', '.join(_SUFFIXES[:4])}, "
            "...). Expected: train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg."
        )
    strange = sorted({f.parts[depth] for f in labelled[-1]} - set(classes))
    if strange:
        raise InputError(
            f"{path} has evaluation images of classes without calibration images: "
            f"{', '.join(strange[:5])}. Class folders must be the same in both."
        )
    if not train:
        whole = labelled[0]
        labelled = [[whole[i] for i in index.tolist()] for index in shuffled_split(len(whole))]
    number = {name: i for i, name in enumerate(classes)}
    calibration, evaluation = (
        ImageFolder(
            archive=archive,
            files=part,
            targets=torch.tensor(
                [number[file.parts[depth]] for file in part], dtype=torch.int64, device="cpu"
            ),
            form=form,
        )
        for part in labelled
    )
    return calibration, evaluation


def _wrapping(files: Sequence[PurePosixPath]) -> int:
    """Return the number of folders, one in another, that hold all the rest."""
    least = min((len(file.parts) for file in files), default=0)
    depth = 0
    while least > depth + 2 and len({file.parts[depth] for file in files}) == 1:
        depth += 1
    return depth


def _fitted(image: Image.Image, form: ImageFormat) -> Image.Image:
    size = form.size
    if size is None or image.size == (size, size):
        return image
    scale = size / _MARGIN / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
