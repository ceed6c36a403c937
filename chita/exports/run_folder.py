"""The run folder: network, masks, record and the hashes of these, all or nothing."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from chita.errors import CheckpointError, OutputError
from chita.exports import hugging_face
from chita.exports.reading import HASHES, LEVELS, MODEL, RECORD, digest
from chita.exports.verify import checked
from chita.files import check_file, draft_beside, flush, is_there, put, replacing, using, writing
from chita.masks.storage import MASKS, save_masks
from chita.models.stored import write_stored
from chita.models.tensors import is_packed
from chita.models.wrappers import plain_state
from chita.records import LevelRecord, RunRecord
from chita.sensitivity_record import SensitivityRecord
from chita.sparse_file.types import TYPES, type_name

OWN = {MODEL, MASKS, RECORD, LEVELS, HASHES, *hugging_face.FILES}


def check_target(path: Path, *, force: bool) -> None:
    """Raise `OutputError` when a run folder could not be written to `path`.

    An existing path is accepted only with `force`, and only if it is a run folder (nothing but
    the files of one) or an empty folder: nothing else is ever deleted. Whether the file system
    takes it is tried: the folders to be made are made, and taken away again.
    """
    path = path.absolute()
    if path.name in ("", ".."):
        raise OutputError(f"{path} names no folder to be made. Choose another path.")
    with using(path):
        above = next(parent for parent in path.parents if parent.exists())
        if not above.is_dir():
            raise OutputError(f"{path} cannot be a folder: {above} is a file. Choose another path.")
        if not os.access(above, os.W_OK):
            raise OutputError(f"{above} is not writable. Choose another path.")
        if is_there(path):
            _check_replaceable(path, force=force)
        with draft_beside(path):
            pass


def _check_replaceable(path: Path, *, force: bool) -> None:
    folder = path.is_dir() and not path.is_symlink()
    content = {entry.name for entry in path.iterdir()} if folder else {"."}
    if path.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise OutputError(f"{path} is the folder you are in, or around it. Choose another path.")
    if not (content == set() or RECORD in content) or content - OWN:
        raise OutputError(
            f"{path} exists and is not a run folder, so force does not replace it. Choose another "
            "path."
        )
    if not force:
        raise OutputError(f"{path} exists. Choose another path, or replace it with `force`.")


def storable(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a network under plain names, where a file can hold it.

    Raises `OutputError` that names what is no dense tensor of a type that safetensors has.
    """
    state = plain_state(model)
    for name, value in state.items():
        kind = type(value).__name__
        if isinstance(value, Tensor):
            kind = f"{type_name(value.dtype)} tensor ({value.layout})"
            if not is_packed(value) and type_name(value.dtype) in TYPES:
                continue
        raise OutputError(
            f"{name} in the state dict is a {kind}, which safetensors cannot hold. Save the "
            "network with torch.save, or keep that out of its state dict."
        )
    return state


def write_run(
    path: Path, model: nn.Module, masks: Mapping[str, Tensor], record: RunRecord, *, force: bool
) -> None:
    """Write a run folder under a temporary name beside `path`, then rename it.

    That of a network of transformers is also one for its `from_pretrained`. What was written is
    read again and verified.

    Raises `OutputError` when it cannot be written, or its files do not agree; `path` is then as it
    was before.
    """
    with _written(path, force=force) as draft:
        state = storable(model)
        known = hugging_face.is_hugging_face(model)
        tied = hugging_face.tied_names(model) if known else None
        write_stored(state, draft / MODEL, tied=tied)
        if known:
            hugging_face.save(model, draft)
        save_masks(masks, draft / MASKS)
        (draft / RECORD).write_text(record.model_dump_json(indent=2) + "\n")
        if record.levels:
            _write_levels(draft / LEVELS, record.levels)


def write_sensitivity(path: Path, record: SensitivityRecord, *, force: bool) -> None:
    """Write `record.json` and `levels.csv` as a run folder is written, or only the latter.

    That is so where the name of `path` ends in .csv.

    Raises `OutputError` when it cannot be written; `path` is then as it was before.
    """
    if not _is_table(path):
        with _written(path, force=force) as draft:
            (draft / RECORD).write_text(record.model_dump_json(indent=2) + "\n")
            _write_levels(draft / LEVELS, record.levels)
        return
    check_sensitivity_target(path, force=force)
    with writing(path), replacing(path) as draft:
        _write_levels(draft, record.levels)
        flush(draft)


def check_sensitivity_target(path: Path, *, force: bool) -> None:
    """Raise `OutputError` when `write_sensitivity` could not write to `path`."""
    check = check_file if _is_table(path) else check_target
    check(path, force=force)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


@contextmanager
def _written(path: Path, *, force: bool) -> Iterator[Path]:
    """A draft that takes the place of `path` at the end of the block, with hashes of its files."""
    check_target(path, force=force)
    path = path.absolute()
    with writing(path), draft_beside(path) as draft:
        yield draft
        hashes = [f"{digest(file)}  {file.name}\n" for file in sorted(draft.iterdir())]
        (draft / HASHES).write_text("".join(hashes))
        if (draft / MASKS).exists():
            _check_whole(draft, path)
        for file in draft.iterdir():
            file.chmod(0o644)
            flush(file)
        put([(draft, path)])


def _check_whole(draft: Path, path: Path) -> None:
    """Raise `OutputError` where `chita verify` would find fault with a run folder."""
    try:
        faults = checked(draft, hashes=False).faults
    except CheckpointError as error:
        faults = (str(error),)
    if faults:
        raise OutputError(
            f"{path} was not written, since its files do not agree: "
            f"{'; '.join(faults).rstrip('.')}. If training filled zeros, set them again by "
            "chita.apply_masks. If the state dict of the network leaves weights out, save it by "
            "torch.save."
        )


def _write_levels(path: Path, levels: Sequence[LevelRecord]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(LevelRecord.model_fields)
        table.writerows(level.model_dump().values() for level in levels)
