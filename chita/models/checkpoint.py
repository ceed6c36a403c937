"""Weights from files into networks, safely, and completely or not at all."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from chita.errors import CheckpointError, failures_as
from chita.models.foreign import told_of
from chita.models.stored import read_stored
from chita.models.tensors import is_plain
from chita.models.wrappers import canonical_names, place, plain_state, unwrapped
from chita.naming import listed, plain_name, plain_names, prefix_between, prefixes_between
from chita.pickles import load_torch
from chita.sparse_file.reading import is_sparse, read_sparse

KeyMap = Callable[[str], str | None]
"""A tensor's name in a checkpoint to its name in the network; None drops the tensor."""

_ENVELOPES = ("state_dict", "model_state_dict", "model")
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
_WAY_OUT = "Convert it to safetensors, or, if you trust its source, set `allow_pickle`."
_INDEX = ".index.json"
_FILES = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)
"""Checkpoints of a folder; of several, transformers reads the first in this order, too."""
_DEEPEST = 4  # dicts within dicts in which tensors are looked for
_SHOWN = 20  # faults listed in one message


def same_name(name: str) -> str:
    """Return the name: the key map of checkpoints that name tensors as the network does."""
    return name


def load(
    path: str | Path, *, allow_pickle: bool = False, max_bytes: int | None = None
) -> dict[str, Tensor]:
    """Return the named tensors of a file or run folder, dense and on the CPU.

    Reads sparse files (`.chita`, or the index of several), to the bits that were written;
    safetensors; PyTorch files of nothing but tensors and plain containers; and several of these
    beside their index (`model.safetensors.index.json`), as Hugging Face parts large checkpoints. A
    state dict inside a `state_dict`, `model_state_dict` or `model` entry is found, and so is the
    only one inside others. Of several, the tensors have the names of the entries before their own.

    Args:
        path: the file or index, or a folder: that of a run, or a checkpoint of Hugging Face.
        allow_pickle: also unpickle foreign objects, which **runs code stored in the file**.
        max_bytes: how much a sparse file may hold, in memory. As zeros take next to nothing in it,
            a small file may be large: where nothing is said, what is more than the memory that is
            available is refused.

    Raises:
        CheckpointError: the file, or one that an index names, is absent, damaged, holds no tensors,
            holds some that are not plain, needs `allow_pickle`, or is larger than `max_bytes`; an
            index names a file that is not beside it.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
    ...     torch.save({"weight": torch.eye(2)}, file.name)
    ...     load(file.name)["weight"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    path = _file_of(Path(path))
    if not path.is_file():
        raise CheckpointError(f"The file {path} does not exist. Give a checkpoint or a run folder.")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"The file {path} may not be read. Check its permissions.")
    if is_sparse(path):
        return read_sparse(path, max_bytes=max_bytes)
    read = _read_parts if path.name.endswith(_INDEX) else _read
    tensors = read(path, allow_pickle=allow_pickle)
    strange = [name for name, tensor in tensors.items() if not is_plain(tensor)]
    if strange:
        raise CheckpointError(
            f"{path} holds tensors that are sparse, quantised, sharded (DTensor) or without "
            f"values: {listed(strange, _SHOWN)}. Save them plain, by to_dense(), dequantize() or "
            "full_tensor()."
        )
    return tensors


def _file_of(path: Path) -> Path:
    """Return the checkpoint that a folder holds, or the path itself where it is no folder."""
    if not path.is_dir():
        return path
    found = next((path / name for name in _FILES if (path / name).is_file()), None)
    if found is None:
        raise CheckpointError(
            f"The folder {path} holds no {', '.join(_FILES)}. Give a run folder, or a checkpoint."
        )
    return found


def _read_parts(path: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    """Return the tensors that an index places in several files beside it."""
    ask = "Give the index that was written with the checkpoint."
    with failures_as(CheckpointError, f"{path} cannot be read as an index", ask):
        places = json.loads(path.read_text())["weight_map"]
        files = sorted({*places.values()})
        if not files:
            raise ValueError("it names no tensors")
        outside = [file for file in files if file != PurePath(file).name or file in ("", "..")]
    if outside:
        raise CheckpointError(
            f"{path} names files that are not beside it: {', '.join(outside[:_SHOWN])}. {ask}"
        )
    absent = [file for file in files if not (path.parent / file).is_file()]
    if absent:
        raise CheckpointError(
            f"{path} names files that are not there: {', '.join(absent[:_SHOWN])}. Copy all of the "
            "checkpoint into one folder."
        )
    parts = {file: _read(path.parent / file, allow_pickle=allow_pickle) for file in files}
    lost = [name for name, file in places.items() if name not in parts[file]]
    if lost:
        raise CheckpointError(
            f"{path} names tensors that its files do not hold: {', '.join(lost[:_SHOWN])}. {ask}"
        )
    return {name: parts[file][name] for name, file in places.items()}


def _read(path: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    try:
        return read_stored(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Check the path.") from None
    except SafetensorError as error:
        if path.suffix == ".safetensors":
            raise CheckpointError(
                f"{path} is not a readable safetensors file: {error}. Write it again, for example "
                "with safetensors.torch.save_file."
            ) from None
    try:
        content = load_torch(path, way_out=_WAY_OUT, allow_pickle=allow_pickle)
    except CheckpointError as error:
        raise CheckpointError(told_of(path) or str(error)) from None
    return _state_dict(content, path)


def load_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], *, key_map: KeyMap = same_name
) -> tuple[str, ...]:
    """Copy named tensors into a network's parameters and buffers, in place.

    The prefixes of `DataParallel` and `torch.compile` are taken off, as is any that all tensors
    share, or those of the whole network alone; see `renamed`. A weight that torch.nn.utils.prune
    stored in two parts is their product.

    Returns the checkpoint's names that the key map dropped, or that lack the network's prefix.

    Raises `CheckpointError` that lists every tensor that is missing, extra, doubled, misshapen, of
    another kind of number or not finite, and names of one tensor with two values, at once; the
    network is then unchanged. It is not where it turns out to load other than its state dict says.
    """
    model = unwrapped(model)
    expected = plain_state(model)
    blank = [n for n, t in expected.items() if is_lazy(t) or getattr(t, "is_meta", False)]
    if blank:
        raise CheckpointError(
            f"{type(model).__name__} has no room for weights yet in: {', '.join(blank[:_SHOWN])}. "
            "Make it on the CPU, and run lazy modules once."
        )
    whole = unpruned(tensors, expected)
    given: dict[str, Tensor] = {}
    faults = []
    for name, tensor in whole.items():
        target = known_name(name, expected, key_map)
        if target in given:
            faults.append(f"{name}: a second tensor for {target}")
        elif target is not None:
            given[target] = tensor
    mapped = renamed(given, expected, needed=_of_one_name(expected))
    faults += _misfits(mapped, expected, weights=canonical_names(model).values())
    if faults:
        raise CheckpointError(
            f"The weights do not fit {type(model).__name__}: {listed(faults, _SHOWN, '; ')}. "
            "Give a sound checkpoint of this architecture."
        )
    own = plain_names(model.state_dict())
    model.load_state_dict({own[name]: tensor for name, tensor in mapped.items()}, strict=False)
    _check_loaded(model, mapped)
    taken = {id(tensor) for tensor in mapped.values()}
    return tuple(name for name, tensor in whole.items() if id(tensor) not in taken)


def known_name(name: str, known: Container[str], key_map: KeyMap = same_name) -> str | None:
    """Return a tensor's name in a checkpoint as the network knows it; None to drop the tensor.

    Prefixes of `DataParallel` and `torch.compile` are taken off where the name is not known, and
    the count of averages that `AveragedModel` keeps is dropped.
    """
    target = key_map(name)
    if target is None or target in known:
        return target
    return None if target == "n_averaged" else plain_name(_WRAPPERS.sub("", target))


def renamed(
    tensors: Mapping[str, Tensor], known: Collection[str], needed: Iterable[str]
) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names that a network or masks have for them.

    `needed` are the names that must be there. Where those all have one prefix in the checkpoint, or
    none of theirs, tensors without it are of another network and left out. Where some are missing,
    it is the prefix by which all tensors are known.

    Raises `CheckpointError` when several prefixes do.
    """
    named = {known_name(name, known) or name: tensor for name, tensor in tensors.items()}
    whole = named.keys() | {name.removesuffix("_orig") for name in named}  # see unpruned
    off, on = prefix_between(needed, whole)
    if not off + on:
        shared = prefixes_between(named, known)
        on, off = shared[0] if len(shared) == 1 else ("", "")
    return {
        off + name.removeprefix(on): tensor for name, tensor in named.items() if name.startswith(on)
    }


def _misfits(
    mapped: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, weights: Collection[str]
) -> Iterator[str]:
    """Iterate over what is wrong with tensors for a network that has the expected ones."""
    first: dict[object, str] = {}  # names of one tensor, of which a file may have but one
    for name, tensor in mapped.items():
        other = first.setdefault(_place(name, expected.get(name)), name)
        if other != name and not _same(mapped[other], tensor):
            yield f"{other} and {name}: one tensor of the network, but two in the checkpoint"
    for name, tensor in expected.items():
        if not isinstance(tensor, Tensor):  # of get_extra_state
            continue
        tied = _place(name, tensor) in first
        if name not in mapped and not tied and not name.endswith("num_batches_tracked"):
            yield f"{name}: missing"
    for name, tensor in mapped.items():
        own = expected.get(name)
        if own is None:
            yield f"{name}: not in the network"
        elif not isinstance(own, Tensor):
            continue
        elif tensor.shape != own.shape:
            yield f"{name}: shape {tuple(tensor.shape)}, the network has {tuple(own.shape)}"
        elif own.is_floating_point() != tensor.is_floating_point():
            yield f"{name}: {tensor.dtype}, the network has {own.dtype}"
        buffer = own is not None and name not in weights
        if tensor.is_floating_point() and not _sound(tensor, infinite=buffer):
            yield f"{name}: NaN or infinite values"


def _place(name: str, tensor: object) -> object:
    """Return what the names of one tensor share, the name alone where it has no memory."""
    return (place(tensor) if isinstance(tensor, Tensor) else None) or name


def _of_one_name(expected: Mapping[str, Any]) -> list[str]:
    """Return the names that a complete checkpoint has, without those of tensors with several."""
    places = {name: _place(name, t) for name, t in expected.items() if isinstance(t, Tensor)}
    count = Counter(places.values())
    return [n for n, p in places.items() if count[p] == 1 and not n.endswith("num_batches_tracked")]


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same values; torch compares none of float8."""
    a, b = (tensor.float() if tensor.itemsize == 1 else tensor for tensor in (a, b))
    return a.shape == b.shape and torch.equal(a, b.to(a))


def _check_loaded(model: nn.Module, mapped: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` where a network does not hold the tensors that it was to load."""
    state = plain_state(model)
    other = [
        name
        for name, tensor in mapped.items()
        if isinstance(own := state[name], Tensor)
        and is_plain(own)
        and not _same(own, tensor.to(own))
    ]
    if other:
        raise CheckpointError(
            f"{type(model).__name__} does not hold the values of the checkpoint after loading: "
            f"{listed(other, _SHOWN)}. Either its state_dict() gives other names or values than "
            "its load_state_dict() takes, or parameters share memory; make these agree."
        )


def _sound(tensor: Tensor, *, infinite: bool) -> bool:
    """Return whether no value is NaN, or infinite unless buffers may be."""
    wide = tensor.float() if tensor.itemsize == 1 else tensor  # torch knows no NaN of float8
    bad = torch.isnan(wide) if infinite else ~torch.isfinite(wide)
    return not bool(bad.any())


def unpruned(tensors: Mapping[str, Tensor], own: Container[str]) -> dict[str, Tensor]:
    """Return the tensors, `NAME_orig` and `NAME_mask` of torch.nn.utils.prune as a product.

    Those that are the network's own, by whatever prefix, stay two tensors.
    """
    merged = dict(tensors)
    for name in tensors:
        weight = name.removesuffix("_orig")
        mask = tensors.get(f"{weight}_mask")
        ends = (name, *(name[dot.end() :] for dot in re.finditer(r"\.", name)))
        pruned = name != weight and not any(end in own for end in ends)
        if pruned and mask is not None and mask.shape == tensors[name].shape:
            merged[weight] = merged.pop(name) * merged.pop(f"{weight}_mask")
    return merged


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    entries = [f"a {type(content).__name__}"]
    if isinstance(content, Mapping):
        held = (content.get(envelope) for envelope in _ENVELOPES)
        content = next((value for value in held if isinstance(value, Mapping)), content)
        found = list(_named_tensors(content))
        several = len({before for before, _, _ in found}) > 1
        if found:
            return {before + name if several else name: tensor for before, name, tensor in found}
        entries = [f"{name} ({type(value).__name__})" for name, value in content.items()]
    raise CheckpointError(
        f"{path} holds no named tensors, but {listed(entries, _SHOWN) or 'nothing'}. Give a state "
        "dict, as torch.save(model.state_dict(), path) writes it, by itself or as an entry."
    )


def _named_tensors(
    content: Mapping[Any, Any], before: str = "", depth: int = _DEEPEST
) -> Iterator[tuple[str, str, Tensor]]:
    """Iterate over tensors in dicts within dicts: the entries before each, its name, itself.

    So not over the states of optimizers, which have numbers, nor over those of `get_extra_state`.
    """
    for name, value in content.items():
        if torch.is_tensor(value):
            yield before, str(name), value
        elif isinstance(value, Mapping) and isinstance(name, str) and depth:
            own = {} if name.endswith("_extra_state") else value
            yield from _named_tensors(own, f"{before}{name}.", depth - 1)
