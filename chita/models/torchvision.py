"""Networks of torchvision, where it is installed (the extra `vision`)."""

from __future__ import annotations

from functools import partial

from chita.errors import InputError
from chita.image_format import ImageFormat
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
    form = ImageFormat(size=224)
    if preset is not None:
        seen = preset.transforms()
        form = ImageFormat(  # presets of detection have no fields
            size=int(getattr(seen, "crop_size", [form.size])[0]),
            mean=tuple(getattr(seen, "mean", form.mean)),
            std=tuple(getattr(seen, "std", form.std)),
        )

    return NamedModel(
        build=partial(models.get_model, name, weights=None),
        trained=partial(models.get_model, name, weights=preset),
        about="of torchvision",
        images=form,
    )
