"""How many samples a network runs together, so that a pass over data keeps within memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chita import nested
from chita.data.examples import Examples, cut, size_of, sliced
from chita.errors import InputError
from chita.models.mode import inference, layers_called

LIMIT = 512e6
"""Bytes that a pass may take beside the network, by what one sample takes."""

_BESIDE = 2  # what lives beside the inputs and outputs of an operation: copies, other branches
_SIGNS = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")  # of a RuntimeError

_Use = TypeVar("_Use")


@final
class Together:
    """How many samples of a batch run together: as many as fit into `LIMIT` bytes.

    One sample shows what each takes: twice the most that the inputs and outputs of an operation
    hold, parameters left out. It runs in eval mode, and leaves no trace; where it fails, nothing
    is bounded. When memory runs out all the same, half as many run together from then on.

    Args:
        model: the network.
        run: runs it on a batch, and computes all that the pass does.
        most: samples that run together where they fit; None for those of a batch as it comes.
        least: samples that are never cut further: 2 where batch norms use the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[Any], object],
        *,
        most: int | None = None,
        least: int = 1,
    ) -> None:
        self._model, self._run, self._most, self._least = model, run, most, least
        self._given, self._taken = 0, 0  # bytes of the sample that was run, and of its pass
        self._tried = 0

    def size(self, batch: Any) -> int:
        """Return how many samples like the first of a batch run together."""
        sample = next(cut(batch, 1))
        given = max(1, sum(tensor.nbytes for tensor in nested.tensors(sample)))
        most = self._most or size_of(batch)
        scale = given / self._given if self._given else math.inf
        # The pass of a longer sample may take the square of its length, as attention does.
        if scale > 1 and not self._taken * scale**2 * most <= LIMIT:
            self._given, self._taken, scale = given, self._measured(sample), 1.0
        each = max(1.0, self._taken * min(scale, 1.0))
        return max(self._least, min(most, int(LIMIT / each)))

    def each(self, batch: Any, use: Callable[[Any], _Use]) -> Iterator[tuple[Any, _Use]]:
        """Yield the parts of a batch that run together, with what `use` makes of them.

        Raises `InputError` when memory runs out with one sample.
        """
        start, count = 0, size_of(batch)
        while start < count:
            size = self.size(batch)
            part = batch if size >= count else sliced(batch, start, start + size)
            self._tried = size_of(part)
            try:
                made = use(part)
            except Exception as error:  # noqa: BLE001 - raised again unless it is of memory
                self._halve(error)
                continue
            yield part, made
            start += size_of(part)

    def equal(self, samples: Examples) -> Iterator[Any]:
        """Iterate over batches of one size within every part, none of a single sample beside."""
        for part in samples.parts:
            count = size_of(part)
            size = math.ceil(count / math.ceil(count / self.size(part)))
            while size > 1 and count % size == 1:
                size += 1
            for batch in cut(part, size):
                self._tried = size_of(batch)
                yield batch

    def whole(self, run: Callable[[], _Use]) -> _Use:
        """Return what `run` makes of `equal` batches, again whenever memory runs out.

        Raises `InputError` when it does so with the least that may run together.
        """
        while True:
            try:
                return run()
            except Exception as error:  # noqa: BLE001 - raised again unless it is of memory
                self._halve(error)

    def _halve(self, error: Exception) -> None:
        if not _ran_out(error):
            raise error
        if self._tried <= self._least:
            raise InputError(
                f"Memory runs out with {self._tried} of the samples at a time, or with a batch "
                f"whose samples cannot be told apart: {error} Give smaller samples or batches, or "
                "free memory."
            ) from error
        self._most = max(self._least, self._tried // 2)

    def _measured(self, sample: Any) -> int:
        """Return the bytes that a pass of one sample takes, 0 where that is not known."""
        watched = _Watched(self._model)
        devices = {p.device.index for p in self._model.parameters() if p.device.type == "cuda"}
        with (
            suppress(Exception),  # of a network that takes no single sample
            warnings.catch_warnings(action="ignore"),
            torch.random.fork_rng(devices),
            inference(self._model),
            layers_called(),
            watched,
        ):
            self._run(sample)
        return _BESIDE * watched.most


class _Watched(TorchDispatchMode):
    """The `most` bytes that the inputs and outputs of an operation hold, parameters left out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        own = (*model.parameters(), *model.buffers())
        self._own = {_storage(tensor) for tensor in own if tensor.layout == torch.strided}
        self.most = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it would load the compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        held: dict[int, int] = {}
        for leaf in tree_leaves((args, kwargs, out)):
            # What is expanded holds less than it shows.
            plain = isinstance(leaf, Tensor) and leaf.layout == torch.strided
            if plain and _storage(leaf) not in self._own:
                held[_storage(leaf)] = min(leaf.nbytes, leaf.untyped_storage().nbytes())
        self.most = max(self.most, sum(held.values()))
        return out


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _ran_out(error: BaseException | None) -> bool:
    """Return whether memory ran out, as an error or the cause of one says."""
    while error is not None:
        said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
        if said or isinstance(error, MemoryError):
            return True
        error = error.__cause__
    return False
