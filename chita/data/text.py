"""Text as sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from chita.data.examples import Examples
from chita.data.lines import text_lines
from chita.errors import InputError
from chita.text_format import TextFormat

_SHORTEST = 20  # characters of a line that is taken for a sentence
_TOGETHER = 64  # sentences of similar length


class Tokenizer(Protocol):
    """A tokenizer as those of Hugging Face."""

    pad_token_id: int | None

    def __call__(self, text: Any, **options: Any) -> Any:
        """Return the token ids of a text, or of several, under `input_ids`."""


def text_data(name: str, form: TextFormat, tokenizer: Tokenizer) -> tuple[Examples, Examples]:
    """Return (calibration, evaluation) of text, as dicts of `input_ids` and `attention_mask`.

    Args:
        name: of files or a data set, as `chita.data.lines.text_lines` takes it.
        form: how long sequences are. All tokens follow each other without padding; what is left
            at the end is left out.
        tokenizer: of the network.

    Where the network predicts the next token, each sequence is its own `labels`. For other networks
    evaluation is of lines one by one, padded to the longest.

    Raises `InputError` when the text cannot be read or is too little.
    """
    calibration, evaluation = text_lines(name)
    packs = packed("\n".join(calibration), form, tokenizer)
    if form.causal:
        return packs, packed("\n".join(evaluation), form, tokenizer)
    return packs, sentences(evaluation, form, tokenizer)


def packed(text: str, form: TextFormat, tokenizer: Tokenizer) -> Examples:
    """Return a text cut into sequences of one length.

    Raises `InputError` when it is shorter than one.
    """
    before, after = _around(tokenizer)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    inner = form.length - len(before) - len(after)
    count = len(ids) // inner if inner > 0 else 0
    if not count:
        raise InputError(
            f"The text has {len(ids)} tokens, fewer than one sequence of {form.length}. Give more "
            "text, or shorter sequences."
        )
    body = torch.tensor(ids[: count * inner], device="cpu").view(count, inner)
    rows = torch.cat([_repeated(before, count), body, _repeated(after, count)], 1)
    batch = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    return Examples({**batch, "labels": rows.clone()} if form.causal else batch)


def sentences(lines: Sequence[str], form: TextFormat, tokenizer: Tokenizer) -> Examples:
    """Return lines of at least 20 characters, each a sample, cut to `length`, the shortest first.

    Those of similar length are padded to one length, so that little of what runs is padding.

    Raises `InputError` when no line is that long.
    """
    kept = [line.strip() for line in lines if len(line.strip()) >= _SHORTEST]
    if not kept:
        raise InputError(f"The text has no line of at least {_SHORTEST} characters. Give more.")
    ids = tokenizer(kept, truncation=True, max_length=form.length)["input_ids"]
    ids.sort(key=len)
    padding = tokenizer.pad_token_id or 0
    parts = (ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER))
    return Examples(*(_padded(part, padding) for part in parts))


def _padded(ids: Sequence[list[int]], padding: int) -> dict[str, Tensor]:
    """Return samples as one batch, as long as the longest."""
    rows = [torch.tensor(row, dtype=torch.int64, device="cpu") for row in ids]
    return {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
    }


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens that a sequence begins and ends with."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _repeated(ids: list[int], count: int) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64, device="cpu").expand(count, -1)
