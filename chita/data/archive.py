"""Files under a folder or in a zip archive, by their relative paths."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import final

from chita.errors import InputError

_LARGEST = 64 << 20  # bytes of one file, unpacked
_RATIO = 200  # unpacked to packed bytes of the whole; photographs hardly shrink


class Archive(ABC):
    """Named files, in sorted order."""

    names: tuple[PurePosixPath, ...]

    @abstractmethod
    def read(self, name: PurePosixPath) -> bytes:
        """Return the bytes of a file.

        Raises `InputError` when it cannot be read or is unreasonably large.
        """


def open_archive(path: Path, suffixes: Iterable[str]) -> Archive:
    """Return the files with these suffixes under a folder, or in a zip file.

    Raises `InputError` when the zip is damaged, encrypted, names files outside itself, or unpacks
    to unreasonably much.
    """
    kinds = frozenset(suffixes)
    return _Folder(path, kinds) if path.is_dir() else _Zip(path, kinds)


@final
class _Folder(Archive):
    def __init__(self, path: Path, kinds: frozenset[str]) -> None:
        self._path = path
        files = (f.relative_to(path) for f in _walked(path) if f.suffix.lower() in kinds)
        self.names = tuple(sorted(PurePosixPath(f.as_posix()) for f in files))

    def read(self, name: PurePosixPath) -> bytes:
        file = self._path / name
        try:
            if file.stat().st_size > _LARGEST:
                raise InputError(
                    f"{file} has more than {_LARGEST} bytes; it is no image to prune on."
                )
            return file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error}. Check the folder.") from None


def _walked(root: Path) -> Iterator[Path]:
    """Iterate over all files under a folder, through linked folders too, into each once."""
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        place = Path(folder).resolve()
        if place in seen:  # a link to a folder around it
            below.clear()
            continue
        seen.add(place)
        yield from (Path(folder, name) for name in names)


@final
class _Zip(Archive):
    def __init__(self, path: Path, kinds: frozenset[str]) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            entries = [e for e in self._zip.infolist() if not e.filename.endswith(("/", "\\"))]
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise InputError(f"{path} is no readable zip file: {error}. Fetch it again.") from None
        self._check(entries)
        named = {_path(entry): entry for entry in entries}
        self._entries = {name: e for name, e in named.items() if name.suffix.lower() in kinds}
        self.names = tuple(sorted(self._entries))

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        for entry in entries:
            name = _path(entry)
            if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
                raise InputError(
                    f"{self._path} names a file outside itself: {entry.filename!r}. It is not to "
                    "be trusted; pack it again."
                )
            if entry.flag_bits & 1:
                raise InputError(f"{self._path} is encrypted. Unpack it and give the folder.")
        packed = max(1, self._path.stat().st_size)
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > _RATIO * packed:
            raise InputError(
                f"{self._path} unpacks from {packed} to {unpacked} bytes, which images do not. It "
                "may be a zip bomb; check it, or unpack it and give the folder."
            )

    def read(self, name: PurePosixPath) -> bytes:
        try:
            with self._zip.open(self._entries[name]) as file:
                content = file.read(_LARGEST + 1)  # a header may lie about the size
        except Exception as error:  # zlib, struct and zipfile each raise their own
            raise InputError(f"{name} in {self._path} cannot be read: {error}.") from error
        if len(content) > _LARGEST:
            raise InputError(f"{name} in {self._path} unpacks to more than {_LARGEST} bytes.")
        return content


def _path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of an entry, which some programs write with backslashes or a leading `./`."""
    return PurePosixPath(entry.filename.replace("\\", "/"))
