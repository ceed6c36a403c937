"""Networks of Hugging Face's transformers, where it is installed (the extra `hf`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from chita.errors import InputError, failures_as
from chita.imports import cause, optional
from chita.models.named import NamedModel
from chita.text_format import LENGTH, TextFormat


def tokenizer_of(form: TextFormat) -> Any:
    """Return the tokenizer of a network.

    Raises `InputError` when it cannot be read.
    """
    import transformers  # noqa: PLC0415 (an optional library)

    ask = "Save it into that folder, or give data of your own by package.module:function."
    with failures_as(InputError, f"The tokenizer of {form.name} cannot be read", ask, why=cause):
        return transformers.AutoTokenizer.from_pretrained(form.name)


def hugging_face_model(name: str) -> NamedModel:
    """Return a network by the path of a folder or an id of the hub.

    It is made by the class that its configuration names, or by `AutoModel`. Code that comes with a
    checkpoint is not run.

    Raises `InputError` when transformers is absent or finds no such network.
    """
    transformers = optional("transformers", extra="hf", what=f"hf:{name}")
    ask = (
        "Give the folder of a network with its config.json, or an id of the hub while there is a "
        "connection."
    )
    with failures_as(InputError, f"hf:{name} cannot be read", ask, why=cause):
        config = transformers.AutoConfig.from_pretrained(name)
    named = [n for n in config.architectures or () if hasattr(transformers, n)]
    kind = getattr(transformers, named[0]) if named else transformers.AutoModel

    def trained() -> nn.Module:
        with without_bars():
            network: nn.Module = kind.from_pretrained(name)
        return network

    causal = bool(named) and named[0].endswith(("ForCausalLM", "LMHeadModel"))
    positions = getattr(config, "max_position_embeddings", None)
    longest = positions if isinstance(positions, int) and positions > 0 else None
    return NamedModel(
        build=partial(kind if named else kind.from_config, config),
        trained=trained,
        about="of Hugging Face",
        text=TextFormat(
            name=name, causal=causal, length=min(LENGTH, longest or LENGTH), longest=longest
        ),
    )


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence the progress bars of transformers, which do not know ours, for a block."""
    from transformers import logging  # noqa: PLC0415 (an optional library)

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
