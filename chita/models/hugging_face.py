"""Networks of Hugging Face's transformers, where it is installed (the extra `hf`)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from torch import nn

from chita.errors import InputError, failures_as
from chita.imports import cause, optional
from chita.models.named import NamedModel
from chita.naming import guessed
from chita.text_format import LENGTH, TextFormat

CONFIG = "config.json"
"""The file by which a folder is one of a network."""

_ASK = "Give the folder of a network with its config.json, or an id of the hub."
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SECONDS = 3.0  # until a hub that does not answer is taken to be away


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
    name = _source(name)
    with failures_as(InputError, f"hf:{name} cannot be read", _ASK, why=cause):
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


def _source(name: str) -> str:
    """Return a folder or an id of the hub; of what the hub keeps here, the folder if it is away.

    Raises `InputError` when neither is there, before anything waits for an answer.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (an optional library)

    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    others = folder.parent.iterdir() if folder.parent.is_dir() else ()
    near = guessed(str(folder), [str(other) for other in others if (other / CONFIG).is_file()])
    if not _ID.fullmatch(name):
        raise InputError(f"hf:{name} cannot be read: there is no such folder. {near}{_ASK}")
    if _hub_answers():
        return name
    away = "it is no folder here, and the hub, of which it is not kept here, cannot be reached"
    what, ask = f"hf:{name} cannot be read", f"{near}{_ASK}"
    with failures_as(InputError, what, ask, why=lambda _: away):
        return str(snapshot_download(name, local_files_only=True))


def _hub_answers() -> bool:
    """Whether the hub can be asked; through a proxy that is taken for granted."""
    from huggingface_hub import constants  # noqa: PLC0415 (an optional library)

    if constants.HF_HUB_OFFLINE or getproxies():
        return not constants.HF_HUB_OFFLINE
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=_SECONDS):
            return True
    except OSError:
        return False


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
