"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from chita.errors import OutputError, failures_as


def draft_of(path: Path) -> Path:
    """Return the hidden path beside `path` at which this process prepares what goes there."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path for the file that takes the place of `path` at the end of the block.

    When the block raises, `path` is as it was, and the draft is gone.
    """
    draft = draft_of(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, gone at the end with those that were made for it."""
    draft = draft_of(path)
    absent = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for folder in absent:
            with suppress(OSError, ValueError):  # not empty, or never made
                folder.rmdir()


def writing(path: Path) -> AbstractContextManager[None]:
    """Let failures to write what goes to `path` become one `OutputError`."""
    ask = "Nothing was left there; free space or choose another path."
    meant = (OSError, ValueError, SafetensorError)  # ValueError: a null in the name
    return failures_as(OutputError, f"{path} could not be written", ask, of=meant)


def using(path: Path) -> AbstractContextManager[None]:
    """Let failures to look at what is at `path` become one `OutputError`."""
    meant = (OSError, ValueError)  # ValueError: a null in the name
    return failures_as(OutputError, f"{path} cannot be used", "Choose another path.", of=meant)


def check_file(path: Path, *, force: bool) -> None:
    """Raise `OutputError` when a file could not be written to `path`.

    One that exists is accepted only with `force`. Whether the file system takes it is tried.
    """
    with using(path):
        if not path.absolute().parent.is_dir():
            raise OutputError(
                f"{path} cannot be written: {path.parent} is no folder. Make it first."
            )
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} exists and is no file. Choose another path.")
        if path.exists() and not force:
            raise OutputError(f"{path} exists. Choose another path, or replace it with `force`.")
        draft = draft_of(path)
        draft.touch()
        draft.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, whole or not at all.

    Raises `OutputError` when it cannot be written.
    """
    with writing(path), replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")


def is_there(path: Path) -> bool:
    """Return whether a path is taken, be it by a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def put(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move every draft to its target; if one fails, all is as it was before."""
    aside: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for draft, target in moves:
            if is_there(target):
                old = target.with_name(f".{target.name}.{os.getpid()}.old")
                target.rename(old)
                aside.append((old, target))
            draft.rename(target)
            made.append(target)
    except BaseException:
        for target in made:
            _remove(target)
        for old, target in aside:
            old.rename(target)
        raise
    for old, _ in aside:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Let the disk have all of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
