"""Text files as sequences of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from chita.data.examples import Examples
from chita.errors import InputError
from chita.text_format import TextFormat

SUFFIXES = (".txt", ".jsonl")
_CALIBRATION, _EVALUATION = ("train", "valid", "validation"), ("test",)
_SHARE = 5  # one part in so many, the last, is held out of a single file
_SHORTEST = 20  # characters of a line that is taken for a sentence


class Tokenizer(Protocol):
    """What is asked of a tokenizer, as Hugging Face's are."""

    pad_token_id: int | None

    def __call__(self, text: Any, **options: Any) -> Any:
        """Return the token ids of a text, or of several, under `input_ids`."""


def is_text(path: Path) -> bool:
    """Return whether this is a text file, or a folder with one for calibration."""
    return path.suffix.lower() in SUFFIXES or (
        path.is_dir() and _part(path, _CALIBRATION) is not None
    )


def text_data(path: Path, form: TextFormat, tokenizer: Tokenizer) -> tuple[Examples, Examples]:
    """Return (calibration, evaluation) of text, as dicts of `input_ids` and `attention_mask`.

    Args:
        path: a `.txt` file, a `.jsonl` file of objects with a `text` each, or a folder with one
            named train or valid, and one named test. Of a single file the last fifth is held out.
        form: how long sequences are. All tokens follow each other without padding; what is left
            at the end is left out.
        tokenizer: of the network.

    Where the network tells the next token, each sequence is its own `labels`. For other networks
    evaluation is of lines one by one, padded to the longest.

    Raises `InputError` when a file cannot be read or holds too little.
    """
    if path.is_dir():
        first, second = _part(path, _CALIBRATION), _part(path, _EVALUATION)
        if first is None or second is None:
            raise InputError(
                f"{path} must hold a file {' or '.join(f'{n}.txt' for n in _CALIBRATION)}, and "
                "test.txt (or .jsonl)."
            )
        calibration, evaluation = _lines(first), _lines(second)
    else:
        lines = _lines(path)
        cut = len(lines) - len(lines) // _SHARE
        calibration, evaluation = lines[:cut], lines[cut:]
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
    body = torch.tensor(ids[: count * inner]).view(count, inner)
    rows = torch.cat([_repeated(before, count), body, _repeated(after, count)], 1)
    batch = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    return Examples({**batch, "labels": rows.clone()} if form.causal else batch)


def sentences(lines: Sequence[str], form: TextFormat, tokenizer: Tokenizer) -> Examples:
    """Return lines of at least 20 characters, each a sample, cut to `length` and padded.

    Raises `InputError` when there is none.
    """
    kept = [line.strip() for line in lines if len(line.strip()) >= _SHORTEST]
    if not kept:
        raise InputError(f"The text has no line of at least {_SHORTEST} characters. Give more.")
    ids = tokenizer(kept, truncation=True, max_length=form.length)["input_ids"]
    longest = max(map(len, ids))
    rows = torch.full((len(ids), longest), tokenizer.pad_token_id or 0)
    mask = torch.zeros_like(rows)
    for i, row in enumerate(ids):
        rows[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return Examples({"input_ids": rows, "attention_mask": mask})


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that a sequence begins and ends with."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _repeated(ids: list[int], count: int) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64).expand(count, -1)


def _part(folder: Path, names: Sequence[str]) -> Path | None:
    paths = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Give text in UTF-8.") from None
    return list(_texts(path, lines)) if path.suffix.lower() == ".jsonl" else lines


def _texts(path: Path, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number} is no JSON object with a text: {error!r}. Correct it."
            ) from None
        if not isinstance(text, str):
            raise InputError(f"{path}, line {number} has a text that is none: {text!r}.")
        yield from text.splitlines()
