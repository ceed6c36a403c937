"""The files of a run folder: their names, record and hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from chita.errors import CheckpointError, failures_as, first_line
from chita.records import RunRecord

MODEL, RECORD = "model.safetensors", "record.json"
LEVELS = "levels.csv"  # where the loss at levels of sparsity was measured
HASHES = "SHA256SUMS"  # of all other files, as `sha256sum -c` reads them


def read_record(folder: Path) -> RunRecord:
    """Return the record of a run folder. Raises `CheckpointError` when there is no sound one."""
    what, ask = f"{folder / RECORD} cannot be read as a record", "Give the file that was written."
    with failures_as(CheckpointError, what, ask, of=(OSError, ValueError), why=first_line):
        return RunRecord.model_validate_json((folder / RECORD).read_text())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
