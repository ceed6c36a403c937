"""A network as a chain of units: each is run on what the settled ones before it gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.activations import Activations, mapped
from chita.errors import InputError

Run = Callable[[Any], object]
"""Calls the network on one batch."""


@final
class Chain:
    """Runs a network again and again, without running again what is settled.

    A settled unit is not run: it gives back what it gave when it was settled. So a pass costs what
    lies between the units, and the one that is looked at; and every unit gets its arguments,
    whatever these are, from the network itself.

    Args:
        modules: the units, name to module; none within another.
        run: calls the network on a batch.
        batches: of the calibration data, each as the network takes it.
        limit: bytes of outputs kept in memory (`Activations`).

    Fields: `order`, the names of the units in the order in which the network first calls them;
    those that it does not call are left out.

    The first batch tells that order. A unit that is called again after a later one has begun is
    never settled, and so is run. What a settled unit gave is kept as long as a later one gets it
    directly: whether it does is found by putting NaN in its place.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], run: Run, batches: Sequence[Any], limit: int
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

    @property
    def spilled(self) -> int:
        """How many batches' outputs lie in files now."""
        return self._kept.spilled

    def passes(self, name: str) -> Iterator[None]:
        """Run the network up to the end of a unit, for each batch, and yield after each."""
        for batch in range(len(self._batches)):
            self._outputs(batch, name)
            yield

    def settle(self, name: str) -> Iterator[None]:
        """Run a unit with the weights that it has now, keep what it gives, and yield as `passes`.

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
        for other in self._settled:
            if self._last[other] == now:
                for batch in range(len(self._batches)):
                    shapes = mapped(_blank, self._kept.get((other, batch)))
                    self._kept.put((other, batch), shapes)

    def _outputs(self, batch: int, name: str) -> list[Any]:
        """What a unit gives for a batch, call by call."""
        given: list[Any] = []

        def called(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            given.append(mapped(_own, outputs))
            if len(given) == self._counts[name]:
                raise _Reached
            return outputs

        with ExitStack() as stack:
            for other in self._settled:
                stack.enter_context(self._replaying(other, self._kept.get((other, batch))))
            stack.enter_context(_forwarding(self._modules[name], called))
            self._run_on(self._batches[batch])
        return given

    def _run_on(self, batch: Any) -> None:
        try:
            with torch.no_grad():
                self._run(nested.map_tensors(torch.clone, batch))
        except _Reached:
            pass

    @contextmanager
    def _replaying(self, name: str, given: Sequence[Any]) -> Iterator[None]:
        """Let a unit give what it gave before, call by call."""
        left = iter(given)

        def called(_forward: Callable[..., Any], *_args: Any, **_kwargs: Any) -> Any:
            try:
                return mapped(_own, next(left))
            except StopIteration:
                raise InputError(
                    f"{name} is called more often for one batch than for another or at another "
                    "time, so it cannot be pruned layer by layer. Leave it out with `ignore`."
                ) from None

        with _forwarding(self._modules[name], called):
            yield

    def _first_run(self, limit: int) -> tuple[list[str], Activations]:
        """The units as they are called for the first batch, and what each gives, by name."""
        calls: list[str] = []
        given: dict[str, list[Any]] = {}

        def noted(name: str) -> Callable[..., None]:
            def note(_module: nn.Module, _args: object, outputs: Any) -> None:
                given.setdefault(name, []).append(mapped(_own, outputs))

            return note

        with ExitStack() as stack:
            for name, module in self._modules.items():
                before = module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
                stack.callback(before.remove)
                stack.callback(module.register_forward_hook(noted(name)).remove)
            self._run_on(self._batches[0])
        kept = Activations(limit)
        for name, outputs in given.items():
            kept.put(name, outputs)
        return calls, kept

    def _last_needed(self, calls: Sequence[str], given: Activations) -> dict[str, int]:
        """The last unit that gets each one's outputs directly, by its place in `order`.

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
        plain = self._reached_by(None, able, given) or set()
        found = {}
        for name in able:
            whole = all(t.is_floating_point() for t in nested.tensors(given.get(name)))
            reached = self._reached_by(name, able, given) if whole else None
            places = [self.order.index(other) for other in (reached or set()) - plain]
            found[name] = always if reached is None else max([-1, *places])
        return found

    def _reached_by(
        self, poisoned: str | None, able: Sequence[str], given: Activations
    ) -> set[str] | None:
        """The units whose arguments hold NaN when one gives nothing else; None where it fails."""
        reached: set[str] = set()

        def look(name: str) -> Callable[..., None]:
            def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
                if any(bool(torch.isnan(t).any()) for t in nested.tensors((args, kwargs))):
                    reached.add(name)

            return note

        try:
            with ExitStack() as stack:
                for name, module in self._modules.items():
                    hook = module.register_forward_pre_hook(look(name), with_kwargs=True)
                    stack.callback(hook.remove)
                for name in able:
                    outputs = given.get(name)
                    if name == poisoned:
                        outputs = mapped(_poisoned, outputs)
                    stack.enter_context(self._replaying(name, outputs))
                self._run_on(self._batches[0])
        except Exception:  # noqa: BLE001 (a network may do anything with NaN)
            return None
        return reached


class _Reached(BaseException):
    """The unit that was to be run has been run."""


@contextmanager
def _forwarding(module: nn.Module, called: Callable[..., Any]) -> Iterator[None]:
    """Call something else in place of a module's `forward`, with that as the first argument."""
    own, forward = module.__dict__.get("forward"), module.forward
    module.__dict__["forward"] = lambda *args, **kwargs: called(forward, *args, **kwargs)
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


@final
@dataclass(frozen=True, kw_only=True)
class _Blank:
    """A tensor of which only the shape matters."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def _blank(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return _Blank(shape=leaf.shape, dtype=leaf.dtype, device=leaf.device)


def _own(leaf: Any) -> Any:
    """A copy of a tensor, which the network may then write to; zeros for a blank."""
    if isinstance(leaf, _Blank):
        return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _poisoned(leaf: Any) -> Any:
    return torch.full_like(leaf, torch.nan) if isinstance(leaf, Tensor) else leaf
