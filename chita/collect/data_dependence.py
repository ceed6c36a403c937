"""Control flow and shapes that depend on values of tensors, which `torch.func` cannot follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from chita import nested

_READ_OUTRIGHT = ("tolist", "numpy", "__array__", "__dlpack__")  # by no operation of torch's
_DEPENDENT = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_MASKS = (torch.bool, torch.uint8)


@contextmanager
def watch_data_dependence() -> Iterator[DataDependence]:
    """Note for a block whether values leave their tensors or decide shapes.

    Constants count as activations do, so that a network which depends on values may be sound.

    >>> with watch_data_dependence() as dependence:
    ...     _ = torch.ones(2).sum() > 1
    >>> dependence.seen
    False
    >>> with watch_data_dependence() as dependence:
    ...     _ = bool(torch.ones(2).sum() > 1)
    >>> dependence.seen
    True
    """
    dependence = DataDependence()  # type: ignore[no-untyped-call]
    with _Functions(dependence), dependence:
        yield dependence


class _Functions(TorchFunctionMode):
    def __init__(self, dependence: DataDependence) -> None:
        super().__init__()
        self._dependence = dependence

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._dependence.seen |= getattr(func, "__name__", "") in _READ_OUTRIGHT
        return func(*args, **(kwargs or {}))


@final
class DataDependence(TorchDispatchMode):
    """A watch on a block of code. Field: `seen`, whether it depends on values."""

    seen: bool = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch would load its compiler here, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(tag in func.tags for tag in _DEPENDENT):
            # Indexing has the tag for masks; with integers its shapes are known.
            index = func.overloadpacket is torch.ops.aten.index
            masked = index and any(t.dtype in _MASKS for t in nested.tensors(args[1]))
            self.seen |= masked or not index
        return func(*args, **(kwargs or {}))
