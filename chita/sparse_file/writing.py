"""Tensors to a sparse file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import final

import torch
from safetensors.torch import save_file
from torch import Tensor

from chita.errors import InputError, OutputError
from chita.files import draft_beside, flush, is_there, writing
from chita.naming import listed
from chita.sparse_file.coding import Coding, smallest
from chita.sparse_file.metadata import KEY, VALUES, SparseMetadata, StoredTensor
from chita.sparse_file.narrowing import narrowed, unfit
from chita.sparse_file.types import (
    LITTLE_ENDIAN,
    NARROW,
    TYPES,
    WIDE,
    bits_of,
    container,
    tensor_of,
    type_name,
)

SUFFIX = ".chita"
_LISTED = 20  # faults listed in one message
_SHOWN = 80  # characters of a name in a message


@final
@dataclass(frozen=True, kw_only=True)
class Written:
    """The file that `write_sparse` wrote.

    Fields: its `path` and `bytes`; bytes of all tensors in memory (`dense_bytes`); `tensors`, by
    name how each is stored, or the name of the one that it equals; `raised`, by name, how many
    values would have been rounded to zero and became the smallest of their sign.
    """

    path: Path
    bytes: int
    dense_bytes: int
    tensors: dict[str, StoredTensor | str]
    raised: dict[str, int]


def write_sparse(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    values: str | torch.dtype | None = None,
    force: bool = False,
) -> Written:
    """Write named tensors with their zeros left out; `chita.load` gives the same bits back.

    Each tensor is stored in whichever coding takes the fewest bytes, and equal ones once. Beside
    the tensors, memory is needed for twice what is in the file.

    Args:
        tensors: as of `Module.state_dict`.
        path: the file, its name ending in `.chita`.
        values: `"float16"` or `"bfloat16"`: numbers of float32 and float64 are rounded to the
            nearest of that type and come back in their own. The same places are zero: what would
            be rounded to zero becomes the smallest number of its sign, and is counted.
        force: whether a file that exists is replaced. It is put in its place when it is complete.

    Raises:
        InputError: a name, type or tensor that a sparse file does not hold, or, with `values`, NaN
            and numbers that are too large.
        OutputError: it cannot be written, or exists; nothing new is left there then.
    """
    path = Path(path)
    if path.suffix != SUFFIX or not path.stem:
        raise OutputError(f"{path} is no name for a sparse file. Give one that ends in {SUFFIX}.")
    narrow = None if values is None else str(values).removeprefix("torch.")
    if narrow not in (None, *NARROW):
        raise InputError(
            f"`values` is {values!r}; give one of {', '.join(NARROW)}, or None for the tensors' "
            "own types."
        )
    _check(tensors, narrow)
    metadata, parts, raised = _content(tensors, narrow)
    with writing(path):
        if is_there(path) and not (force and path.is_file()):
            raise OutputError(f"{path} exists. Choose another path, or replace it with force=True.")
        with draft_beside(path.absolute()) as folder:
            draft = folder / path.name
            save_file(parts, draft, {KEY: metadata.model_dump_json(exclude_none=True)})
            flush(draft)
            draft.replace(path)
        size = path.stat().st_size
    return Written(
        path=path,
        bytes=size,
        dense_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        tensors=metadata.tensors,
        raised=raised,
    )


def _check(tensors: Mapping[str, Tensor], narrow: str | None) -> None:
    """Raise `InputError` with all that no sparse file holds."""
    if not LITTLE_ENDIAN:
        raise InputError("Sparse files are not written on this machine: it is big-endian.")
    faults = [
        f"{shown(str(name))}: {fault}" for name, t in tensors.items() for fault in _bad(name, t)
    ]
    if faults:
        raise InputError(
            f"A sparse file does not hold these: {listed(faults, _LISTED, '; ')}. Give plain dense "
            "tensors with values, under names."
        )
    if narrow is None:
        return
    faults = [
        f"{shown(name)}: {count} numbers are NaN or too large for {narrow}"
        for name, tensor in tensors.items()
        if type_name(tensor.dtype) in WIDE and (count := unfit(tensor, getattr(torch, narrow)))
    ]
    if faults:
        raise InputError(
            f"The values cannot be stored in {narrow}: {listed(faults, _LISTED, '; ')}. Store them "
            "in bfloat16, which reaches as far as float32, or in their own types (values=None)."
        )


def _bad(name: object, tensor: object) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"its name is of type {type(name).__name__}"
    elif not name.isascii() and name.encode(errors="replace").decode() != name:
        yield "its name cannot be written in UTF-8"
    if not isinstance(tensor, Tensor):
        yield f"it is of type {type(tensor).__name__}"
    elif tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        yield "it is sparse, quantised or without values"
    elif type_name(tensor.dtype) not in TYPES:
        yield f"its type is {tensor.dtype}"
    elif tensor.dtype == torch.bool and (bits_of(tensor) > 1).any():
        yield "it holds bytes that are neither False nor True"


def shown(name: str) -> str:
    """Return a name as it stands in a message."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _content(
    tensors: Mapping[str, Tensor], narrow: str | None
) -> tuple[SparseMetadata, dict[str, Tensor], dict[str, int]]:
    """The metadata and parts of a file, and how many values are raised, by name."""
    metadata = SparseMetadata.model_validate({"version": 2, "narrow": narrow, "tensors": {}})
    pieces: dict[str, list[Tensor]] = {}
    raised: dict[str, int] = {}
    first: dict[object, str] = {}  # names, by types, shapes and hashes
    for name, tensor in tensors.items():
        bits, kind = bits_of(tensor), type_name(tensor.dtype)
        twin = first.setdefault((kind, tensor.shape, sha256(bits.data).digest()), name)
        if twin != name:
            metadata.tensors[name] = twin
            raised[name] = raised.get(twin, 0)
            continue
        part = metadata.part_of(kind)
        stored = container(part.removeprefix(VALUES))
        coding, places = smallest(bits, stored.itemsize)
        present = bits if coding == Coding.DENSE else bits[bits != 0]
        values = tensor_of(present, container(kind), (len(present),))
        if values.dtype != stored:
            values, raised[name] = narrowed(values, stored)
        counts = len(values), len(places)
        metadata.tensors[name] = StoredTensor(coding, kind, tuple(tensor.shape), *counts)
        pieces.setdefault(part, []).append(values)
        if coding != Coding.DENSE:
            pieces.setdefault(coding.value, []).append(torch.from_numpy(places))
    parts = {name: torch.cat(one) for name, one in pieces.items()}
    metadata = metadata.model_copy(update={"sha256": metadata.hashed(parts)})
    return metadata, parts, {name: count for name, count in raised.items() if count}
