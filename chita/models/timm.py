"""Networks of timm, where it is installed (the extra `vision`)."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any

from chita.errors import InputError
from chita.image_format import ImageFormat
from chita.imports import optional
from chita.models.named import NamedModel
from chita.naming import nearest


def timm_model(name: str) -> NamedModel:
    """Return a network of timm by its name.

    Raises `InputError` when timm is absent or has no such network.
    """
    timm = optional("timm", extra="vision", what=f"timm:{name}")
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*") or get_close_matches(name, timm.list_models())
        hint = f"Did you mean {' or '.join(close[:5])}? " if close else ""
        raise InputError(f"timm has no network {name!r}. {hint}timm.list_models() names all.")
    try:
        preset = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # NAME.TAG of a known network with an unknown tag
        tags = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        raise InputError(f"timm has no network {name!r}: {error} {nearest(name, tags)}") from error
    seen: dict[str, Any] = dict(getattr(preset, "to_dict", dict)())
    form = ImageFormat(
        size=int(seen.get("input_size", (3, 224, 224))[-1]),
        mean=tuple(seen.get("mean", ImageFormat().mean)),
        std=tuple(seen.get("std", ImageFormat().std)),
    )

    return NamedModel(
        build=partial(timm.create_model, name, pretrained=False),
        trained=partial(timm.create_model, name, pretrained=True),
        about="of timm",
        images=form,
    )
