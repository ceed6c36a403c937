"""The file of results that a sweep goes on with: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chita.errors import InputError, OutputError
from chita.files import replacing


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file, which is made if absent; a last line that was cut off is removed.

    Raises `InputError` when it cannot be written to, or holds something else.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) and {"run", "settings"} <= line.keys() for line in lines):
            raise ValueError("a line is no run of a sweep")
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot hold the results: {error}. Choose another file with `out`."
        ) from None
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a run to a file. Raises `OutputError` when it cannot be written."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error}. Free space.") from None


def write_text(path: Path, text: str, option: str = "table") -> None:
    """Write a text to the file that an option names, whole or not at all.

    Raises `OutputError` when it cannot be written.
    """
    try:
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error}. Choose another file with `{option}`."
        ) from None
