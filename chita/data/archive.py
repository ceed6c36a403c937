"""Files under a folder or in a zip archive, by their relative paths."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, final

from chita.errors import InputError, failures_as

_LARGEST = 64 << 20  # bytes of one file, unpacked
_RATIO = 200  # unpacked to packed bytes of the whole; photographs hardly shrink


@final
class Archive:
    """Files under a path by their `names`, in sorted order.

    Args:
        path: of the folder or the zip file, for messages.
        files: functions that open them, by name.
    """

    def __init__(self, path: Path, files: Mapping[PurePosixPath, Callable[[], IO[bytes]]]) -> None:
        self._path, self._files = path, files
        self.names = tuple(sorted(files))

    def read(self, name: PurePosixPath) -> bytes:
        """Return the bytes of a file.

        Raises `InputError` when it cannot be read or is unreasonably large.
        """
        what = f"{name} in {self._path} cannot be read"
        told = failures_as(InputError, what, "Check it, or leave it out.")
        with told, self._files[name]() as file:
            content = file.read(_LARGEST + 1)  # the header of a zip may lie about the size
        if len(content) > _LARGEST:
            raise InputError(
                f"{name} in {self._path} has more than {_LARGEST} bytes; it is no image to prune "
                "on."
            )
        return content


def open_archive(path: Path, suffixes: Iterable[str]) -> Archive:
    """Return the files with these suffixes under a folder, or in a zip file.

    Raises `InputError` when the zip is damaged, encrypted, names files outside itself, or unpacks
    to unreasonably much.
    """
    files = _in_folder(path) if path.is_dir() else _in_zip(path)
    kinds = frozenset(suffixes)
    return Archive(path, {n: opened for n, opened in files.items() if n.suffix.lower() in kinds})


def _in_folder(path: Path) -> dict[PurePosixPath, Callable[[], IO[bytes]]]:
    """Return the files under a folder, through linked folders too, into each once."""
    files: dict[PurePosixPath, Callable[[], IO[bytes]]] = {}
    seen = set()
    for folder, below, names in os.walk(path, followlinks=True):
        place = Path(folder).resolve()
        if place in seen:  # a link to a folder around it
            below.clear()
            continue
        seen.add(place)
        inner = PurePosixPath(Path(folder).relative_to(path).as_posix())
        files |= {inner / name: partial(_opened, Path(folder, name)) for name in names}
    return files


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _in_zip(path: Path) -> dict[PurePosixPath, Callable[[], IO[bytes]]]:
    """Return the files of a zip file, checked for names and sizes."""
    with failures_as(InputError, f"{path} is no readable zip file", "Fetch it again."):
        archive = zipfile.ZipFile(path)
        entries = [e for e in archive.infolist() if not e.filename.endswith(("/", "\\"))]
    files: dict[PurePosixPath, Callable[[], IO[bytes]]] = {}
    for entry in entries:
        # Some programs write names with backslashes or a leading `./`.
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
            raise InputError(
                f"{path} names a file outside itself: {entry.filename!r}. It is not to be trusted; "
                "pack it again."
            )
        if entry.flag_bits & 1:
            raise InputError(f"{path} is encrypted. Unpack it and give the folder.")
        files[name] = partial(archive.open, entry)
    packed = max(1, path.stat().st_size)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _RATIO * packed:
        raise InputError(
            f"{path} unpacks from {packed} to {unpacked} bytes, which images do not. It may be a "
            "zip bomb; check it, or unpack it and give the folder."
        )
    return files
