"""Notice when code looks at the values of tensors, which `torch.func` could not follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from chita import nested

_READ_OUTRIGHT = ("tolist", "numpy", "__array__", "__dlpack__")  # by no operation of torch's
_LOOKING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_MASKS = (torch.bool, torch.uint8)


@final
class Looks:
    """Field: `seen`, whether a value was looked at."""

    def __init__(self) -> None:
        self.seen = False


@contextmanager
def looks_noticed() -> Iterator[Looks]:
    """Note for a block whether values leave their tensors or decide shapes.

    Says so too where these are no activations: that a network looks is not yet a fault.

    >>> with looks_noticed() as looks:
    ...     _ = torch.ones(2).sum() > 1
    >>> looks.seen
    False
    >>> with looks_noticed() as looks:
    ...     _ = bool(torch.ones(2).sum() > 1)
    >>> looks.seen
    True
    """
    looks = Looks()
    with _Functions(looks), _Operations(looks):
        yield looks


@final
class _Functions(TorchFunctionMode):
    def __init__(self, looks: Looks) -> None:
        super().__init__()
        self._looks = looks

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self._looks.seen |= getattr(func, "__name__", "") in _READ_OUTRIGHT
        return func(*args, **(kwargs or {}))


@final
class _Operations(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch would load its compiler here, which takes a second

    def __init__(self, looks: Looks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._looks = looks

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if any(tag in func.tags for tag in _LOOKING):
            # Indexing has the tag for masks; with integers its shapes are known.
            index = func.overloadpacket is torch.ops.aten.index
            self._looks.seen |= not index or any(map(_is_mask, nested.tensors(args[1])))
        return func(*args, **(kwargs or {}))


def _is_mask(tensor: Tensor) -> bool:
    return tensor.dtype in _MASKS
