"""The form in which a network takes images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from chita.arguments import whole_number
from chita.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@final
@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """Inputs are (size, size) pixels, (x/255 - mean)/std per channel; one mean makes it grey.

    An image of another size is scaled so that its shorter side is `size`/0.875, then its centre is
    cut out. Where `size` is None, all images must have one size and are taken as they are.

    Raises `InputError` when a field cannot be used.
    """

    size: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.size is not None:
            whole_number("image_size", self.size, at_least=1, meaning="pixels of a side")
        sound = all(map(math.isfinite, (*self.mean, *self.std))) and min(self.std, default=0) > 0
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std) or not sound:
            raise InputError(
                f"image_mean {self.mean} and image_std {self.std} must hold one number each for "
                "grey images or three for colour, all finite, and std above zero."
            )
