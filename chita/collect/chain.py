"""A network as a chain of blocks: each is run on what the settled ones before it gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.activations import Activations
from chita.errors import InputError
from chita.models.mode import forward_replaced, layers_called


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

    Fields: `order`, the names of the blocks in the order in which the network first calls them;
    those that it does not call are left out.

    The first batch gives that order. A block that is called again after a later one has begun is
    never settled, and so is run. What a settled block gave is kept as long as a later one gets it
    directly: whether it does is found by putting NaN in its place.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        run: Callable[[Any], object],
        batches: Sequence[Any],
        limit: int,
    ) -> None:
        self._modules = modules
        self._run = run
        self._batches = batches
        self._kept = Activations(limit)
        calls, given = self._first_run(limit)
        self.order = tuple(dict.fromkeys(calls))
        self._counts = {name: calls.count(name) for name in self.order}
        self._last = self._last_needed(calls, given)
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
            if len(given) == self._counts[name]:
                raise _Reached  # what comes after the block is not run
            return outputs

        with ExitStack() as stack:
            for other in self._settled:
                stack.enter_context(self._replaying(other, self._kept.get((other, batch))))
            module = self._modules[name]
            stack.enter_context(forward_replaced(module, partial(called, module.forward)))
            self._run_on(self._batches[batch])
        return given

    def _run_on(self, batch: Any) -> None:
        with torch.no_grad(), layers_called(), suppress(_Reached):
            self._run(nested.map_tensors(torch.clone, batch))

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

    def _first_run(self, limit: int) -> tuple[list[str], Activations]:
        """Return the blocks as the first batch calls them, and the outputs of each, by name."""
        calls: list[str] = []
        given: dict[str, list[Any]] = {name: [] for name in self._modules}

        def note(name: str, _module: nn.Module, _args: object, outputs: Any) -> None:
            given[name].append(nested.map_leaves(_own, outputs))

        with ExitStack() as stack:
            for name, module in self._modules.items():
                begun = module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
                stack.enter_context(begun)
                stack.enter_context(module.register_forward_hook(partial(note, name)))
            self._run_on(self._batches[0])
        kept = Activations(limit)
        for name in dict.fromkeys(calls):
            kept.put(name, given[name])
        return calls, kept

    def _last_needed(self, calls: Sequence[str], given: Activations) -> dict[str, int]:
        """Return the last block that gets each one's outputs directly, by its place in `order`.

        Without those that are called again after a later one has begun.
        """
        first = {name: calls.index(name) for name in self.order}
        ends = {name: len(calls) - 1 - calls[::-1].index(name) for name in self.order}
        able = [
            name
            for i, name in enumerate(self.order)
            if all(ends[name] < first[later] for later in self.order[i + 1 :])
        ]
        always = len(self.order)
        # Masks may hold NaN by themselves: blocks that they reach say nothing.
        plain = self._reached_by(None, able, given) or set()
        found = {}
        for name in able:
            # Integers have no NaN, so that such outputs are kept for good.
            whole = all(t.is_floating_point() for t in nested.tensors(given.get(name)))
            reached = self._reached_by(name, able, given) if whole else None
            places = [self.order.index(other) for other in (reached or set()) - plain]
            found[name] = always if reached is None else max([-1, *places])
        return found

    def _reached_by(
        self, poisoned: str | None, able: Sequence[str], given: Activations
    ) -> set[str] | None:
        """Return the blocks whose arguments hold NaN when one gives only that; None if it fails.

        All `able` blocks are replayed, so that NaN gets no further than the next of them.
        """
        reached: set[str] = set()

        def note(name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
            if any(bool(torch.isnan(t).any()) for t in nested.tensors((args, kwargs))):
                reached.add(name)

        try:
            with ExitStack() as stack:
                for name, module in self._modules.items():
                    hook = partial(note, name)
                    stack.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
                for name in able:
                    outputs = given.get(name)
                    if name == poisoned:
                        outputs = nested.map_leaves(_poisoned, outputs)
                    stack.enter_context(self._replaying(name, outputs))
                self._run_on(self._batches[0])
        except Exception:  # noqa: BLE001 (a network may do anything with NaN)
            return None
        return reached


class _Reached(BaseException):
    """The block that was to be run has been run."""


@dataclass(frozen=True)
class _Blank:
    """A tensor of which only the shape matters."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def _blank(leaf: Any) -> Any:
    return _Blank(leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf


def _own(leaf: Any) -> Any:
    """A copy of a tensor, which the network may then write to; zeros for a blank."""
    if isinstance(leaf, _Blank):
        return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _poisoned(leaf: Any) -> Any:
    return torch.full_like(leaf, torch.nan) if isinstance(leaf, Tensor) else leaf
