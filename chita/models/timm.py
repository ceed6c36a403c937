"""Networks of timm, where it is installed (the extra `vision`)."""

from __future__ import annotations

from typing import Any

from torch import nn

from chita.errors import InputError
from chita.image_format import ImageFormat
from chita.models.named import NamedModel
from chita.naming import nearest


def timm_model(name: str) -> NamedModel:
    """Return a network of timm by its name.

    Raises `InputError` when timm is absent or has no such network.
    """
    try:
        import timm  # noqa: PLC0415 (an optional library)
    except ImportError as error:
        raise InputError(
            f"timm:{name} needs timm: {error}. Install the extra: pip install 'chita[vision]'."
        ) from None
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:5] or timm.list_models()[:5]
        raise InputError(f"timm has no network {name!r}. {nearest(name, close)}")
    seen: dict[str, Any] = dict(getattr(timm.get_pretrained_cfg(name), "to_dict", dict)())
    form = ImageFormat(
        size=int(seen.get("input_size", (3, 224, 224))[-1]),
        mean=tuple(seen.get("mean", ImageFormat().mean)),
        std=tuple(seen.get("std", ImageFormat().std)),
    )

    def build(*, pretrained: bool) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=pretrained)
        return network

    return NamedModel(
        build=lambda: build(pretrained=False),
        trained=lambda: build(pretrained=True),
        about="of timm",
        images=form,
    )
