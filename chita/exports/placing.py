"""Files put in their places: all of them or none, and nothing of anybody else's is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chita.errors import OutputError
from chita.exports.hugging_face import FILES
from chita.exports.kind import Kind
from chita.files import draft_beside, flush, is_there, put, writing

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def check_export_target(kind: Kind, path: Path, *, force: bool) -> None:
    """Raise `OutputError` when a file of this kind could not be written to `path`."""
    if kind.suffix and path.suffix != kind.suffix:
        raise OutputError(
            f"{path} is no name for {kind.name}. Give one that ends in {kind.suffix}."
        )
    if path.name in ("", ".."):
        raise OutputError(f"{path} names nothing to be made. Choose another path.")
    if not is_there(path):
        return
    if not force:
        raise OutputError(f"{path} exists. Choose another, or replace it with `force`.")
    if kind.suffix and not path.is_file():
        raise OutputError(f"{path} is no file, so force does not replace it. Choose another.")
    if not kind.suffix and not _replaceable(path):
        raise OutputError(
            f"{path} holds more than a network of transformers, so force does not replace it. "
            "Choose another."
        )


@contextmanager
def put_in_place(kind: Kind, path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a draft of the file, in a folder beside `path`; all in that is moved at the end.

    What lies beside the file is replaced with it, by `force`, and never without.

    Raises `OutputError` when it cannot be written; all is then as it was before.
    """
    check_export_target(kind, path, force=force)
    path = path.absolute()
    with writing(path), draft_beside(path) as folder:
        yield folder / path.name
        beside = sorted(entry for entry in folder.iterdir() if entry.name != path.name)
        for entry in beside:
            _check_beside(path.parent / entry.name, path, force=force)
        for file in files_in(folder):
            file.chmod(0o644)
            flush(file)
        ordered = (*beside, folder / path.name)  # what names the others comes last
        put([(entry, path.parent / entry.name) for entry in ordered])


def files_in(folder: Path) -> list[Path]:
    """Return all files below a folder, in order."""
    return sorted(entry for entry in folder.rglob("*") if entry.is_file())


def _check_beside(target: Path, path: Path, *, force: bool) -> None:
    if not is_there(target):
        return
    if not force:
        raise OutputError(f"{target} exists. Choose another path, or replace it with `force`.")
    if not target.is_file() or not is_there(path):
        raise OutputError(
            f"{target} belongs to something else, so force does not replace it. Choose another "
            "path."
        )


def _replaceable(path: Path) -> bool:
    folder = path.is_dir() and not path.is_symlink()
    return folder and all(e.name in FILES or _WEIGHTS.fullmatch(e.name) for e in path.iterdir())
