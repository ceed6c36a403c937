"""Batches as loaders make them: tensors in tuples, lists and mappings, nested at will."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

_ABSENT = object()
_ATOMS = (str, bytes, int, float, complex, np.generic, type(None))
_MOST, _FIRST = 8, 3  # entries of a list that are described one by one, and those of a longer one


@final
class Shared(Tensor):
    """A tensor that belongs to a batch as a whole, so that the batch is never cut into samples.

    To users it is a tensor: what is computed from it is of the plain type.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Return a copy, which a network may keep of a batch."""
        return as_shared(copy.deepcopy(self.as_subclass(Tensor), memo))


class Row:
    """A list, tuple or array without tensors, of which it is known whether samples share it.

    To users it is what they gave.
    """


class PerSample(Row):
    """A row that holds one value for each sample of its batch, in order."""


class _List(PerSample, list[Any]):
    pass


class _Tuple(PerSample, tuple[Any, ...]):
    pass


class _Array(PerSample, np.ndarray[Any, Any]):
    pass


class _SharedList(Row, list[Any]):
    pass


class _SharedTuple(Row, tuple[Any, ...]):
    pass


class _SharedArray(Row, np.ndarray[Any, Any]):
    pass


def as_row(given: Any, *, shared: bool) -> Any:
    """Return a list, tuple or array as a row, which its samples share or not."""
    if isinstance(given, np.ndarray):
        return given.view(_SharedArray if shared else _Array)
    if isinstance(given, tuple):
        return _SharedTuple(given) if shared else _Tuple(given)
    return _SharedList(given) if shared else _List(given)


def as_shared(tensor: Tensor) -> Tensor:
    """Return the same tensor, as one that belongs to the batch."""
    return tensor.as_subclass(Shared)


def tensors(batch: Any) -> Iterator[Tensor]:
    """Iterate over the tensors of a batch, depth first."""
    return (tensor for _, tensor in named(batch))


def named(batch: Any, place: str = "batch") -> Iterator[tuple[str, Tensor]]:
    """Iterate over the tensors of a batch, depth first, each with its place.

    >>> [place for place, _ in named({"x": torch.zeros(2), "n": [1, torch.zeros(1)]})]
    ["batch['x']", "batch['n'][1]"]
    """
    if isinstance(batch, Tensor):
        yield place, batch
    elif isinstance(batch, Mapping):
        for name, value in batch.items():
            yield from named(value, f"{place}[{name!r}]")
    elif isinstance(batch, (tuple, list)):
        for index, value in enumerate(batch):
            yield from named(value, f"{place}[{index}]")


def is_row(entry: Any, samples: int) -> bool:
    """Return whether an entry could have one number or string for each sample.

    So too a list of anything without tensors that is as long as there are samples.
    """
    if isinstance(entry, Row):
        return True
    if isinstance(entry, np.ndarray):
        return entry.ndim > 0
    if not isinstance(entry, (list, tuple)) or isinstance(entry, torch.Size):
        return False
    if not entry or hasattr(entry, "_fields"):
        return False
    return all(isinstance(value, _ATOMS) for value in entry) or (
        len(entry) == samples and all(map(_is_plain, entry))
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a string, or lists of these."""
    lists = isinstance(value, (list, tuple))
    return all(map(_is_plain, value)) if lists else isinstance(value, _ATOMS)


def rows(batch: Any, samples: int, place: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the entries that `is_row` names, in the order of `map_leaves`, with places."""
    if is_row(batch, samples):
        yield place, batch
    elif isinstance(batch, Mapping):
        for name, value in batch.items():
            yield from rows(value, samples, f"{place}[{name!r}]")
    elif isinstance(batch, (tuple, list)):
        for index, value in enumerate(batch):
            yield from rows(value, samples, f"{place}[{index}]")


def map_leaves(
    function: Callable[[Any], Any],
    batch: Any,
    leaf: Callable[[Any], bool] = lambda part: isinstance(part, Row),
) -> Any:
    """Return the batch with `function` applied to all that is no container, or is a `leaf`.

    Containers keep their types, as `replaced` says, and a `Shared` tensor stays one.

    >>> map_leaves(abs, {"a": (-1, 2)})
    {'a': (1, 2)}
    """
    whole = leaf(batch)
    if isinstance(batch, Mapping) and not whole:
        entries = {name: map_leaves(function, value, leaf) for name, value in batch.items()}
        return replaced(batch, entries)
    if isinstance(batch, (tuple, list)) and not whole:
        return _rebuilt(batch, (map_leaves(function, part, leaf) for part in batch))
    found = function(batch)
    shared = isinstance(batch, Shared) and isinstance(found, Tensor)
    return as_shared(found) if shared else found


def _rebuilt(batch: Any, parts: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of other entries."""
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def replaced(batch: Mapping[Any, Any], entries: dict[Any, Any]) -> Any:
    """Return a mapping with other entries, of the type and with the attributes of a batch.

    It is a plain dict where that type can be neither copied nor made of entries.

    >>> from collections import OrderedDict
    >>> replaced(OrderedDict(a=1), {"a": 2}) == OrderedDict(a=2)
    True
    """
    if type(batch) is dict:
        return entries
    kind: Any = type(batch)
    # A copy keeps attributes, but may hold some of the old entries under them.
    makers: tuple[Callable[[], Any], ...] = (
        lambda: _copied(batch, entries),
        lambda: kind(entries),
        lambda: kind(**entries),
    )
    for make in makers:
        with suppress(Exception):  # a type of users may do anything
            made = make()
            if _has(made, entries, batch):
                return made
    return entries


def _copied(batch: Mapping[Any, Any], entries: dict[Any, Any]) -> Any:
    made: Any = copy.copy(batch)
    if not isinstance(batch, (dict, UserDict)):  # a copy may share what it holds
        raise TypeError
    for name, value in entries.items():
        made[name] = value
    return made


def _has(made: Any, entries: dict[Any, Any], batch: Mapping[Any, Any]) -> bool:
    """Return whether a mapping made like a batch has these entries, as attributes too."""
    attributes = list(getattr(made, "__dict__", {}).values())
    for name, value in entries.items():
        old = batch[name]
        shown = isinstance(name, str) and getattr(batch, name, _ABSENT) is old
        stale = value is not old and any(held is old for held in attributes)
        if made[name] is not value or stale or (shown and getattr(made, name) is not value):
            return False
    return list(made) == list(entries)


def _settings(batch: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the plain attributes of a mapping."""
    held = getattr(batch, "__dict__", {})
    return {name: value for name, value in held.items() if isinstance(value, (int, float, str))}


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Return the batch with `function` applied to its tensors; other leaves stay."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, batch)


def copied(batch: Any, of_tensor: Callable[[Tensor], Tensor] = torch.clone) -> Any:
    """Return a batch that a network may write into: copies of tensors, arrays and objects.

    An object of a type of its own is copied by its `clone`, if any, or with copies of the tensors
    among its attributes. Modules, and what cannot be copied, stay.
    """
    return map_leaves(lambda leaf: _copy_of(leaf, of_tensor), batch)


def _copy_of(leaf: Any, of_tensor: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(leaf, Tensor):
        return of_tensor(leaf)
    if isinstance(leaf, (*_ATOMS, torch.nn.Module, type)):
        return leaf
    with suppress(Exception):  # a type of users may do anything
        return leaf.clone()
    with suppress(Exception):
        made = copy.copy(leaf)
        for name, value in vars(made).items() if hasattr(made, "__dict__") else ():
            if isinstance(value, (Tensor, dict, list, tuple)):
                vars(made)[name] = map_tensors(torch.clone, value)
        return made
    return leaf


def taken(batch: Any, at: slice | Tensor) -> Any:
    """Return the samples of a batch at a slice, or at an index (k,), in that order."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[at.to(leaf.device) if isinstance(at, Tensor) else at]
        if not isinstance(leaf, PerSample):
            return leaf
        row: Any = leaf
        if isinstance(at, slice) or isinstance(row, np.ndarray):
            return as_row(row[at if isinstance(at, slice) else at.tolist()], shared=False)
        values = [row[place] for place in at.tolist()]
        return as_row(tuple(values) if isinstance(row, tuple) else values, shared=False)

    return map_leaves(one, batch)


def count(batch: Any) -> int | None:
    """Return the number of samples, the first size that all tensors share.

    None where samples cannot be separated: no tensor, sizes that differ, a `Shared` tensor, an
    object of a type of its own.
    """
    if not isinstance(batch, (Tensor, Mapping, tuple, list)):
        return None
    parts = list(tensors(batch))
    sizes = {t.size(0) if t.ndim and not isinstance(t, Shared) else None for t in parts}
    return sizes.pop() if len(sizes) == 1 else None


def joinable(a: Any, b: Any) -> bool:
    """Return whether two batches differ in values and number of samples only."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.device == b.device and a.shape[1:] == b.shape[1:]
    if isinstance(a, _Array) and isinstance(b, _Array):
        return bool(a.dtype == b.dtype and a.shape[1:] == b.shape[1:])
    if isinstance(a, _SharedArray) and isinstance(b, _SharedArray):
        return np.array_equal(a, b)
    if isinstance(a, PerSample) and type(a) is type(b):
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        alike = type(a) is type(b) and list(a) == list(b) and _settings(a) == _settings(b)
        return alike and all(joinable(a[name], b[name]) for name in a)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(joinable, a, b))
    return type(a) is type(b) and (a is b or (isinstance(a, (int, float, str)) and a == b))


def joined(batches: Sequence[Any]) -> Any:
    """Return joinable batches, one or more, as one."""
    first = batches[0]
    if len(batches) == 1:
        return map_leaves(lambda leaf: leaf, first)
    if isinstance(first, Tensor):
        return torch.cat(list(batches))
    if isinstance(first, _Array):
        return as_row(np.concatenate(batches), shared=False)
    if isinstance(first, PerSample):
        return type(first)(value for row in batches for value in row)  # type: ignore[call-arg]
    if isinstance(first, Mapping):
        return replaced(first, {name: joined([batch[name] for batch in batches]) for name in first})
    if isinstance(first, (tuple, list)):
        return _rebuilt(first, map(joined, zip(*batches, strict=True)))
    return first


def described(batch: Any, *, whole: bool = False) -> str:
    """Return shapes and types of a batch, for a message; of long lists the first ones.

    >>> described({"x": torch.zeros(2, 3), "n": 1})
    '{x: (2, 3) float32, n: int}'
    >>> described(["cat"] * 1000)
    '(str, str, str, ... 1,000 in all)'
    """
    if isinstance(batch, Tensor):
        return f"{tuple(batch.shape)} {str(batch.dtype).removeprefix('torch.')}"
    if isinstance(batch, Mapping):
        entries = (f"{name}: {described(value, whole=whole)}" for name, value in batch.items())
        return f"{{{', '.join(entries)}}}"
    if isinstance(batch, (tuple, list)):
        cut = len(batch) > _MOST and not whole
        parts = [described(value, whole=whole) for value in (batch[:_FIRST] if cut else batch)]
        parts += [f"... {len(batch):,} in all"] if cut else []
        return f"({', '.join(parts)})"
    return type(batch).__name__
