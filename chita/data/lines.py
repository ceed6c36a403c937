"""Text by name: files, and data sets of Hugging Face, as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chita.data.split import split_lines
from chita.errors import InputError, failures_as
from chita.imports import cause, optional

SUFFIXES = (".txt", ".jsonl")
PREFIX = "datasets:"
"""The prefix of data sets of Hugging Face: datasets:FOLDER, datasets:ID, datasets:ID:PART."""

_CALIBRATION, _EVALUATION = ("train", "valid", "validation"), "test"


def is_text(name: str) -> bool:
    """Return whether this names text: a file, a folder with one for calibration, a data set.

    >>> is_text("notes.txt"), is_text("datasets:imdb"), is_text("digits")
    (True, True, False)
    """
    path = Path(name)
    return (
        name.startswith(PREFIX)
        or path.suffix.lower() in SUFFIXES
        or (path.is_dir() and _part(path, _CALIBRATION) is not None)
    )


def text_lines(name: str) -> tuple[list[str], list[str]]:
    """Return the lines of text for (calibration, evaluation).

    Args:
        name: a `.txt` file, a `.jsonl` file of objects with a `text` each, a folder with one named
            train or valid, and one named test; or `datasets:` before a folder that
            `datasets.Dataset.save_to_disk` wrote or an id of the hub, after which `:PART` names a
            configuration. Data sets have a column `text`, and splits of the same names. Of what
            has no test the last fifth is held out.

    Raises `InputError` when it cannot be read.
    """
    if name.startswith(PREFIX):
        return _of_data_set(name)
    path = Path(name)
    if not path.is_dir():
        return split_lines(_lines(path))
    first, second = _part(path, _CALIBRATION), _part(path, [_EVALUATION])
    if first is None or second is None:
        raise InputError(
            f"{path} must hold a file {' or '.join(f'{n}.txt' for n in _CALIBRATION)}, and "
            "test.txt (or .jsonl)."
        )
    return _lines(first), _lines(second)


def _of_data_set(name: str) -> tuple[list[str], list[str]]:
    splits = _splits(name)
    first = next((splits[n] for n in _CALIBRATION if n in splits), None)
    if first is None:
        raise InputError(
            f"{name} has the splits {', '.join(splits)}; calibration takes "
            f"{' or '.join(_CALIBRATION)}."
        )
    lines = _texts_of(name, first)
    if _EVALUATION not in splits:
        return split_lines(lines)
    return lines, _texts_of(name, splits[_EVALUATION])


def _splits(name: str) -> dict[str, Any]:
    """Return the splits of a data set; one without is for calibration."""
    datasets = optional("datasets", extra="hf", what=name)
    where, _, part = name.removeprefix(PREFIX).partition(":")
    ask = "Give a folder that save_to_disk wrote, or an id of the hub while there is a connection."
    with failures_as(InputError, f"{name} cannot be read", ask, why=cause):
        if Path(where).is_dir():
            found = datasets.load_from_disk(where)
        else:
            found = datasets.load_dataset(where, part or None)
    return dict(found) if isinstance(found, dict) else {_CALIBRATION[0]: found}


def _texts_of(name: str, split: Any) -> list[str]:
    if "text" not in split.column_names:
        raise InputError(
            f"{name} has the columns {', '.join(split.column_names)}, and none named text. Rename "
            "one (rename_column), or give data of your own by package.module:function."
        )
    return [line for text in split["text"] for line in str(text).splitlines()]


def _part(folder: Path, names: Sequence[str]) -> Path | None:
    paths = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _lines(path: Path) -> list[str]:
    with failures_as(InputError, f"{path} cannot be read", "Give text in UTF-8."):
        lines = path.read_text(encoding="utf-8").splitlines()
    return list(_texts(path, lines)) if path.suffix.lower() == ".jsonl" else lines


def _texts(path: Path, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        what = f"{path}, line {number} is no JSON object with a text"
        with failures_as(InputError, what, "Correct it.", why=repr):
            text = json.loads(line)["text"]
        if not isinstance(text, str):
            raise InputError(f"{path}, line {number}: the text is no string, but {text!r}.")
        yield from text.splitlines()
