"""Networks of Hugging Face's transformers, where it is installed (the extra `hf`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from chita.errors import InputError
from chita.imports import optional
from chita.models.named import NamedModel
from chita.text_format import LENGTH, TextFormat


def tokenizer_of(form: TextFormat) -> Any:
    """Return the tokenizer of a network.

    Raises `InputError` when it cannot be read.
    """
    import transformers  # noqa: PLC0415 (an optional library)

    try:
        return transformers.AutoTokenizer.from_pretrained(form.name)
    except Exception as error:  # it raises what its libraries raise
        raise InputError(
            f"The tokenizer of {form.name} cannot be read: {type(error).__name__}: {error}. Save "
            "it into that folder, or give data of your own by package.module:function."
        ) from error


def hugging_face_model(name: str) -> NamedModel:
    """Return a network by the path of a folder or an id of the hub.

    It is made by the class that its configuration names, or by `AutoModel`. Code that comes with a
    checkpoint is not run.

    Raises `InputError` when transformers is absent or finds no such network.
    """
    transformers = optional("transformers", extra="hf", what=f"hf:{name}")
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except Exception as error:  # it raises what its libraries raise
        raise InputError(
            f"hf:{name} cannot be read: {type(error).__name__}: {error}. Give the folder of a "
            "network with its config.json, or an id of the hub while there is a connection."
        ) from error
    named = [n for n in config.architectures or () if hasattr(transformers, n)]
    kind = getattr(transformers, named[0]) if named else transformers.AutoModel

    def trained() -> nn.Module:
        with without_bars():
            network: nn.Module = kind.from_pretrained(name)
        return network

    causal = bool(named) and named[0].endswith(("ForCausalLM", "LMHeadModel"))
    longest = _longest(config)
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


def _longest(config: Any) -> int | None:
    """Return the number of tokens that a network has positions for, None if it is not known."""
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None
