"""What `from_pretrained` needs, beside the weights: configuration and tokenizer."""

from __future__ import annotations

import copy
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

_OF_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model"),
    *("chat_template.jinja", "preprocessor_config.json", "processor_config.json"),
)
FILES = frozenset((*_OF_TOKENIZER, "config.json", "generation_config.json"))
"""Names of what may be written beside weights, masks and record."""


def is_hugging_face(model: nn.Module) -> bool:
    """Return whether a network saves itself as transformers' do."""
    return hasattr(model, "save_pretrained") and hasattr(model, "config")


def save(model: Any, folder: Path) -> None:
    """Write configuration and tokenizer into a folder, where weights are, for `from_pretrained`.

    The tokenizer is that of the folder or id that the network came from, where there is one.
    """
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.save_pretrained(folder)
    source = str(getattr(model, "name_or_path", ""))
    if Path(source).is_dir():
        for name in _OF_TOKENIZER:
            if (Path(source) / name).is_file():
                shutil.copyfile(Path(source) / name, folder / name)
    elif source:
        from transformers import AutoTokenizer  # noqa: PLC0415 (an optional library)

        with suppress(Exception):  # a network may have none, and the hub may be out of reach
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
