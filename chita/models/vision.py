"""Networks of torchvision and of timm, where they are installed (the extra `vision`)."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any

from chita.errors import InputError
from chita.image_format import IMAGENET_MEAN, IMAGENET_STD, ImageFormat
from chita.imports import optional
from chita.models.named import NamedModel
from chita.naming import nearest


def torchvision_model(name: str) -> NamedModel:
    """Return a network of `torchvision.models` by its name; its own weights are the default ones.

    Raises `InputError` when torchvision is absent or has no such network.
    """
    models = optional("torchvision.models", extra="vision", what=f"torchvision:{name}")
    known = models.list_models()
    if name not in known:
        raise InputError(f"torchvision has no network {name!r}. {nearest(name, known)}")
    preset = getattr(models.get_model_weights(name), "DEFAULT", None)
    seen = None if preset is None else preset.transforms()
    form = ImageFormat(  # presets of detection have no fields
        size=int(getattr(seen, "crop_size", [224])[0]),
        mean=tuple(getattr(seen, "mean", IMAGENET_MEAN)),
        std=tuple(getattr(seen, "std", IMAGENET_STD)),
    )
    return NamedModel(
        build=partial(models.get_model, name, weights=None),
        trained=partial(models.get_model, name, weights=preset),
        about="of torchvision",
        images=form,
    )


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
        mean=tuple(seen.get("mean", IMAGENET_MEAN)),
        std=tuple(seen.get("std", IMAGENET_STD)),
    )
    return NamedModel(
        build=partial(timm.create_model, name, pretrained=False),
        trained=partial(timm.create_model, name, pretrained=True),
        about="of timm",
        images=form,
    )
