"""Check that files still hold what was pruned: zeros, counts, patterns, hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from safetensors import SafetensorError
from torch import Tensor

from chita.budget_options import BudgetOptions
from chita.constraints import WholeBlocks, budget_of
from chita.errors import InputError
from chita.exports.checks import refilled
from chita.exports.reading import HASHES, MODEL, RECORD, digest, read_record
from chita.layout import Axes, Layout
from chita.masks.storage import is_mask_file, load_masks, mask_file
from chita.models.checkpoint import load, renamed, unpruned
from chita.models.foreign import told_of
from chita.models.stored import told_names
from chita.options import described
from chita.records import RunRecord


@final
@dataclass(frozen=True, kw_only=True)
class Verified:
    """The checks of files and their findings.

    Fields: `tensors`, `kept` and `removed`, the counts of the masks; `checked`, in words; `faults`,
    one sentence each, empty if all is as it should be.

    >>> Verified(tensors=1, kept=2, removed=2, checked=("zeros",), faults=()).faults
    ()
    """

    tensors: int
    kept: int
    removed: int
    checked: tuple[str, ...]
    faults: tuple[str, ...]


def verify(
    path: str | Path, masks: str | Path | None = None, *, allow_pickle: bool = False
) -> Verified:
    """Check the zeros of a network's file by its masks, and all that a run folder says of itself.

    Nothing is computed with the network, which need not even be known here.

    Args:
        path: a run folder, whose hashes, counts and pattern are checked, too; or any other folder
            or checkpoint, of the same network trained, merged or converted further. There all
            masked tensors may have one prefix, such as that of Lightning.
        masks: a run folder or mask file by which zeros are checked; None for the folder's own.
            With it nothing but zeros is checked, since all else may have changed.
        allow_pickle: see `chita.models.checkpoint.load`.

    Raises:
        CheckpointError: files are absent or cannot be read, or lack a masked tensor.
        InputError: there are no masks to check by.

    >>> import tempfile
    >>> import chita
    >>> import torch
    >>> result = chita.prune(torch.nn.Linear(4, 2), sparsity=0.5, solver="magnitude")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result.save(f"{folder}/pruned")
    ...     found = verify(f"{folder}/pruned")
    >>> found.kept, found.removed, found.faults
    (4, 4, ())
    """
    return checked(Path(path), masks, allow_pickle=allow_pickle)


def checked(
    folder: Path,
    masks: str | Path | None = None,
    *,
    allow_pickle: bool = False,
    hashes: bool = True,
) -> Verified:
    """Check files as `verify` does, without hashes where they were only just made of the files."""
    own = masks is None and (folder / RECORD).is_file()
    file = _mask_file(folder, masks)
    loaded = load_masks(file)
    tensors = load(folder, allow_pickle=allow_pickle)
    told: dict[str, str] = {}
    with suppress(OSError, SafetensorError):  # masks may lie by themselves
        told = told_names(file.parent / MODEL)
    parts, faults = ["zeros"], list(_zeros(tensors, loaded, told))
    if own:
        record = read_record(folder)
        parts.append("counts")
        faults += _counts(record, loaded)
        if hashes:
            parts.append("hashes")
            faults += _hashes(folder)
        if record.settings.get("pattern") or record.settings.get("blocks"):
            parts.append("pattern")
            faults += _patterns(record, loaded)
    count = sum(int(mask.sum()) for mask in loaded.values())
    return Verified(
        tensors=len(loaded),
        kept=count,
        removed=sum(mask.numel() for mask in loaded.values()) - count,
        checked=tuple(parts),
        faults=tuple(faults),
    )


def _zeros(
    tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor], told: Mapping[str, str]
) -> Iterator[str]:
    """Yield masked tensors of a checkpoint that are not zero, under each of their names there.

    `told` are names that a run folder has for tensors beside their first one.
    """
    names: dict[str, list[str]] = {}
    for name, first in told.items():
        names.setdefault(first, [first]).append(name)
    every = {mask: names.get(told.get(mask, mask), [mask]) for mask in masks}
    known = {name for several in every.values() for name in several}
    single = [mask for mask, several in every.items() if len(several) == 1]
    named = renamed(unpruned(tensors, known), known, needed=single or masks)
    there = {mask: [name for name in every[mask] if name in named] or [mask] for mask in masks}
    yield from refilled(
        named, {name: masks[mask] for mask, found in there.items() for name in found}
    )


def _mask_file(folder: Path, masks: str | Path | None) -> Path:
    given = folder if masks is None else Path(masks)
    file = mask_file(given)
    if not is_mask_file(file):
        raise InputError(
            told_of(given)
            or f"{given} holds no masks to check zeros by. Name the run folder that the network "
            "comes from, or its masks.safetensors, as `mask`."
        )
    return file


def _counts(record: RunRecord, masks: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield masks that keep another number of weights than the record says."""
    recorded = {layer.name: layer.kept for layer in record.layers}
    for name in recorded.keys() | masks.keys():
        found = int(masks[name].sum()) if name in masks else None
        if found != recorded.get(name):
            yield f"{name}: the mask keeps {found}, the record says {recorded.get(name)}"
    total = sum(int(mask.sum()) for mask in masks.values())
    if total != record.nnz:
        yield f"the masks keep {total:,} weights, the record says {record.nnz:,}"


def _hashes(folder: Path) -> Iterator[str]:
    """Yield files that are not those that were written."""
    try:
        lines = (folder / HASHES).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        yield f"{HASHES} cannot be read, so it is unknown whether files were changed"
        return
    for line in lines:
        expected, _, name = line.partition("  ")
        if not (folder / name).is_file():
            yield f"{name} is gone"
        elif digest(folder / name) != expected:
            yield f"{name} is not the file that was written (SHA-256)"


def _patterns(record: RunRecord, masks: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield masks that break the pattern or the blocks that were asked for."""
    asked = {e.name: record.settings.get(e.flag) for e in described(BudgetOptions)}
    budget = budget_of(BudgetOptions(**{n: v for n, v in asked.items() if v is not None}))
    words = record.settings.get("pattern") or f"blocks of {record.settings.get('blocks')}"
    for layer in record.layers:
        if layer.axes is None or layer.name not in masks or (layer.solved and layer.solved.skipped):
            continue
        output, inputs, groups = layer.axes
        axes = Axes(output=output, input=inputs, groups=groups)
        layout = Layout(names=(layer.name,), shapes=(layer.shape,), axes=(axes,))
        constraint, mask = budget.bind(layout), masks[layer.name].flatten()
        held = (
            constraint.cuts_none(mask)
            if isinstance(constraint, WholeBlocks)
            else constraint.allows(mask)
        )
        if not held:
            yield f"{layer.name}: the mask is not {words}"
