"""A network as a chain of blocks: each is run on what the settled ones before it gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.activations import Activations
from chita.collect.order import Order, Reached, RunBatch, calls_of, run_quietly
from chita.errors import InputError
from chita.models.mode import forward_replaced


@final
class Chain:
    """Repeated runs of a network that do not run again what is settled.

    A settled block is not run: it gives back what it gave when it was settled. So a pass costs what
    lies between the blocks, and the one that is looked at; and every block gets its arguments,
    whatever these are, from the network itself.

    Args:
        modules: the blocks, name to module; none within another.
        run: calls the network on a batch.
        batches: of the calibration data, each as the network takes it.
        limit: bytes of outputs kept in memory (`Activations`).
        found: how the network calls its blocks (`find_order`).

    Fields: `order`, the names of the blocks in the order in which the network first calls them;
    those that it does not call are left out.

    A block that is called again after a later one has begun is never settled, and so is run. What a
    settled block gave is kept as long as a later one gets it directly.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        run: RunBatch,
        batches: Sequence[Any],
        limit: int,
        found: Order,
    ) -> None:
        self._modules = modules
        self._run = run
        self._batches = batches
        self._kept = Activations(limit)
        self.order, self._last = tuple(found.counts), found.last
        self._counts = _counts(modules, run, batches, found)
        self._settled: list[str] = []

    def passes(self, name: str) -> Iterator[None]:
        """Run the network up to the end of a block, for each batch, and yield after each."""
        for batch in range(len(self._batches)):
            self._outputs(batch, name)
            yield

    def settle(self, name: str) -> Iterator[None]:
        """Run a block with the weights that it has now, keep what it gives, and yield as `passes`.

        It must be the next one in `order`.
        """
        now = self.order.index(name)
        needed = self._last.get(name, -1) > now
        for batch in range(len(self._batches)):
            if needed:
                self._kept.put((name, batch), self._outputs(batch, name))
            yield
        if needed:
            self._settled.append(name)
        # Outputs whose last reader is settled too reach only blocks that are replayed, whatever
        # their values: from now on shapes do.
        for other in self._settled:
            if self._last[other] == now:
                for batch in range(len(self._batches)):
                    shapes = nested.map_leaves(_blank, self._kept.get((other, batch)))
                    self._kept.put((other, batch), shapes)

    def _outputs(self, batch: int, name: str) -> list[Any]:
        """Return the outputs of a block for a batch, call by call."""
        given: list[Any] = []

        def called(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            given.append(nested.map_leaves(_own, outputs))
            if len(given) == self._counts[batch][name]:
                raise Reached  # what comes after the block is not run
            return outputs

        with ExitStack() as stack:
            for other in self._settled:
                stack.enter_context(self._replaying(other, self._kept.get((other, batch))))
            module = self._modules[name]
            stack.enter_context(forward_replaced(module, partial(called, module.forward)))
            run_quietly(self._run, self._batches[batch])
        return given

    def _replaying(self, name: str, given: Sequence[Any]) -> AbstractContextManager[None]:
        """Let a block give what it gave before, call by call, for a block of code."""
        left = iter(given)

        def called(*_args: Any, **_kwargs: Any) -> Any:
            try:
                return nested.map_leaves(_own, next(left))
            except StopIteration:
                raise InputError(
                    f"{name} is called more often for one batch than for another or at another "
                    "time, so it cannot be pruned layer by layer. Leave it out with `ignore`."
                ) from None

        return forward_replaced(self._modules[name], called)


def _counts(
    modules: Mapping[str, nn.Module], run: RunBatch, batches: Sequence[Any], found: Order
) -> list[Mapping[str, int]]:
    """Return the calls of each block for each batch: a pass for each other shape of samples.

    0 where they depend on values: no pass of a batch ends before the network does.
    """
    if not any(found.counts.values()):
        return [found.counts] * len(batches)
    known: dict[tuple[Any, ...], Mapping[str, int]] = {_shapes(batches[0]): found.counts}
    for batch in batches:
        if _shapes(batch) not in known:
            known[_shapes(batch)] = Counter(calls_of(modules, run, batch))
    return [known[_shapes(batch)] for batch in batches]


def _shapes(batch: Any) -> tuple[Any, ...]:
    """Return the shapes of the tensors, those of single samples where they can be told apart."""
    first = 0 if nested.count(batch) is None else 1
    return tuple(tuple(tensor.shape[first:]) for tensor in nested.tensors(batch))


@dataclass(frozen=True)
class _Blank:
    """A tensor of which only the shape matters."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def _blank(leaf: Any) -> Any:
    return _Blank(leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf


def _own(leaf: Any) -> Any:
    """A copy, which the network may then write to; zeros for a blank."""
    if isinstance(leaf, _Blank):
        return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    return nested.copied(leaf)
