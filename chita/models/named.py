"""Networks known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import nn

from chita.image_format import ImageFormat
from chita.models.checkpoint import KeyMap, same_name
from chita.text_format import TextFormat


@final
@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A network known by name.

    Fields: `build`, makes it, to be loaded with a checkpoint; `trained`, makes it with weights of
    its own; `data`, the data set it belongs to; `about`, one line; `key_map`, for checkpoints in
    the wild; `bundled`, file name of weights shipped with the package; `images`, the form in
    which it takes them; `text`, the form in which it takes text; `own`, whether a function of the
    user makes it, which may train, load or neither.
    """

    build: Callable[[], nn.Module]
    about: str
    trained: Callable[[], nn.Module] | None = None
    data: str | None = None
    key_map: KeyMap = same_name
    bundled: str | None = None
    images: ImageFormat | None = None
    text: TextFormat | None = None
    own: bool = False
