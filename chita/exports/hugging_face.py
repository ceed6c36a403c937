"""Folders for `from_pretrained`: configuration, tokenizer and weights."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from torch import nn

from chita.errors import InputError
from chita.exports.checks import same_outputs, same_tensors
from chita.exports.kind import Checked, Kind, Pruned
from chita.imports import is_of
from chita.models.hugging_face import without_bars
from chita.runtimes.copying import tensors_of
from chita.runtimes.inputs import reference

_OF_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model"),
    *("chat_template.jinja", "preprocessor_config.json", "processor_config.json"),
)
FILES = frozenset((*_OF_TOKENIZER, "config.json", "generation_config.json"))
"""Names of what may be written beside weights, masks and record."""


def is_hugging_face(model: nn.Module) -> bool:
    """Return whether a network is one of transformers, and no wrapper that answers for one."""
    return is_of(model, "transformers", "PreTrainedModel")


def tied_names(model: Any) -> Collection[str]:
    """Return the names that `from_pretrained` ties to others and does not look for in a file."""
    found: Collection[str] = getattr(model, "all_tied_weights_keys", ())
    return found


def save(model: Any, folder: Path) -> None:
    """Write configuration and tokenizer into a folder, where weights are, for `from_pretrained`.

    The tokenizer is that of the folder or id that the network came from, if any.
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


@final
class HuggingFace(Kind):
    """Configuration, tokenizer and weights as transformers saves them."""

    name = "hf"
    suffix = ""
    about = "a folder for from_pretrained: configuration, tokenizer, weights"

    def check_fit(self, pruned: Pruned) -> None:
        """Accept only networks of transformers."""
        network, _ = pruned.called()
        if not is_hugging_face(network):
            raise InputError(
                f"{type(network).__name__} is no network of transformers, so from_pretrained "
                "cannot read it. Export it as dense."
            )

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """By `save_pretrained`, large networks in several files.

        `from_pretrained` must give the same tensors to the bit, and the same outputs.
        """
        network, inputs = pruned.called()
        own: Any = network
        path.mkdir()
        with without_bars():
            own.save_pretrained(path)
        save(network, path)
        read: Any = type(network)
        with without_bars():
            again = read.from_pretrained(path).eval()
        found = tensors_of(again)
        same_tensors(pruned.tensors, found)
        gap = same_outputs(reference(again, inputs), reference(network, inputs), inputs)
        return Checked(nnz=pruned.nnz_in(found), difference=gap)
