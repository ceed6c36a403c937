"""Networks of Hugging Face's transformers, where it is installed (the extra `hf`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from chita.errors import InputError
from chita.models.named import NamedModel
from chita.text_format import LENGTH, TextFormat


def tokenizer_of(form: TextFormat) -> Any:
    """Return the tokenizer of a network.

    Raises `InputError` when there is none.
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
    try:
        import transformers  # noqa: PLC0415 (an optional library)
    except ImportError as error:
        raise InputError(
            f"hf:{name} needs transformers: {error}. Install the extra: pip install 'chita[hf]'."
        ) from error
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except Exception as error:  # it raises what its libraries raise
        raise InputError(
            f"hf:{name} cannot be read: {type(error).__name__}: {error}. Give the folder of a "
            "network with its config.json, or an id of the hub while there is a connection."
        ) from error
    named = [n for n in config.architectures or () if hasattr(transformers, n)]
    kind: Any = getattr(transformers, named[0]) if named else transformers.AutoModel

    def build() -> nn.Module:
        network: nn.Module = kind(config) if named else kind.from_config(config)
        return network

    def trained() -> nn.Module:
        with without_bars():
            network: nn.Module = kind.from_pretrained(name)
        return network

    causal = bool(named) and (named[0].endswith("ForCausalLM") or named[0].endswith("LMHeadModel"))
    longest = _longest(config)
    text = TextFormat(
        name=name, causal=causal, length=min(LENGTH, longest or LENGTH), longest=longest
    )
    return NamedModel(build=build, trained=trained, about="of Hugging Face", text=text)


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which know nothing of ours."""
    from transformers import logging  # noqa: PLC0415 (an optional library)

    told: Any = logging
    shown = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            told.enable_progress_bar()


def _longest(config: Any) -> int | None:
    """How many tokens a network has positions for, None where that is not known."""
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None
