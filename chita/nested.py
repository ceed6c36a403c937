"""Batches as loaders make them: tensors in tuples, lists and mappings, nested at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

_MOST, _FIRST = 8, 3  # entries of a list that are described one by one, and those of a longer one


def tensors(batch: Any) -> Iterator[Tensor]:
    """Iterate over the tensors of a batch, depth first."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from tensors(value)


def map_leaves(function: Callable[[Any], Any], batch: Any, *, keep_mappings: bool = False) -> Any:
    """Return the batch with `function` applied to all that is no container.

    Every mapping becomes a dict unless its type is kept, as that of outputs of networks must be;
    tuples and lists keep theirs.

    >>> map_leaves(abs, {"a": (-1, 2)})
    {'a': (1, 2)}
    """
    apply = partial(map_leaves, function, keep_mappings=keep_mappings)
    if isinstance(batch, Mapping):
        entries = {name: apply(value) for name, value in batch.items()}
        return type(batch)(**entries) if keep_mappings and type(batch) is not dict else entries
    if isinstance(batch, (tuple, list)):
        return _rebuilt(batch, map(apply, batch))
    return function(batch)


def _rebuilt(batch: Any, parts: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of other entries."""
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Return the batch with `function` applied to its tensors; other leaves stay."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, batch)


def count(batch: Any) -> int | None:
    """Return the number of samples, the first size that all tensors share.

    None where samples cannot be separated: no tensor, sizes that differ, an object of a type
    of its own.
    """
    if not isinstance(batch, (Tensor, Mapping, tuple, list)):
        return None
    sizes = {len(tensor) if tensor.ndim else None for tensor in tensors(batch)}
    return sizes.pop() if len(sizes) == 1 else None


def joinable(a: Any, b: Any) -> bool:
    """Return whether two batches differ in values and number of samples only."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.device == b.device and a.shape[1:] == b.shape[1:]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(joinable(a[name], b[name]) for name in a)
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
    if isinstance(first, Mapping):
        return {name: joined([batch[name] for batch in batches]) for name in first}
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
