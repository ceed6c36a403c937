"""Batches as loaders make them: tensors in tuples, lists and mappings, nested at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


def map_leaves(function: Callable[[Any], Any], batch: Any) -> Any:
    """Return the batch with `function` applied to all that is no container.

    Every mapping becomes a dict; tuples and lists keep their type.

    >>> map_leaves(abs, {"a": (-1, 2)})
    {'a': (1, 2)}
    """
    if isinstance(batch, Mapping):
        return {name: map_leaves(function, value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [map_leaves(function, value) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return function(batch)


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Return the batch with `function` applied to its tensors; other leaves stay."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, batch)


def count(batch: Any) -> int | None:
    """Return the number of samples, the first size that all tensors share.

    None where samples cannot be told apart: no tensor, sizes that differ, an object of a type
    of its own.
    """
    if not isinstance(batch, (Tensor, Mapping, tuple, list)):
        return None
    sizes = {len(tensor) if tensor.ndim else None for tensor in tensors(batch)}
    return sizes.pop() if len(sizes) == 1 else None


def joinable(a: Any, b: Any) -> bool:
    """Return whether two batches differ in values and number of samples alone."""
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
        parts = [joined(part) for part in zip(*batches, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
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
        parts = (f"{name}: {described(value, whole=whole)}" for name, value in batch.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(batch, (tuple, list)):
        cut = len(batch) > _MOST and not whole
        told = [described(value, whole=whole) for value in (batch[:_FIRST] if cut else batch)]
        return f"({', '.join([*told, *([f'... {len(batch):,} in all'] if cut else [])])})"
    return type(batch).__name__
