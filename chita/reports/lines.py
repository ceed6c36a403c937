"""The file of results that a sweep goes on with: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chita.errors import InputError, OutputError, failures_as


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file, which is made if absent; a last line that was cut off is removed.

    Raises `InputError` when it cannot be written to, or holds something else.
    """
    what, ask = f"{path} cannot hold the results", "Choose another file with `out`."
    with failures_as(InputError, what, ask, of=(OSError, ValueError)):
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = _runs(whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if len(whole) < len(content):
                file.truncate(len(whole))
    return lines


def read_earlier(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file that stays as it is.

    Raises `InputError` when it cannot be read, or holds something else.
    """
    what, ask = f"{path} cannot be read as results of a sweep", "Give a file that a sweep wrote."
    with failures_as(InputError, what, ask, of=(OSError, ValueError)):
        return _runs(path.read_bytes())


def _runs(content: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in content.splitlines()]
    if not all(isinstance(line, dict) and {"run", "settings"} <= line.keys() for line in lines):
        raise ValueError("a line is no run of a sweep")
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a run to a file. Raises `OutputError` when it cannot be written."""
    with (
        failures_as(OutputError, f"{path} could not be written", "Free space.", of=OSError),
        path.open("a") as file,
    ):
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
