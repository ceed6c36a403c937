"""The order in which a network calls its blocks, and how long what each gives is needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import cut
from chita.errors import InputError
from chita.models.mode import forward_replaced, layers_called

_LENGTHS = (16, 8)  # tokens of a sequence that is tried in place of a longer one

RunBatch = Callable[[Any], object]
"""Calls the network on a batch."""


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """The blocks that a network calls, in the order of their first calls.

    Fields: `counts`, the calls of each for one batch; `last`, of each that can be replayed, the
    place in the order of the last block that gets its outputs directly: -1 for none, the number of
    blocks where its outputs are to be kept for good. A block that is called again after a later one
    has begun cannot be replayed. Where calls depend on values, as where tokens are sent to experts,
    all counts are 0 and no block is replayed: every pass runs the whole network.
    """

    counts: dict[str, int]
    last: dict[str, int]


@final
class Reached(BaseException):
    """What was to be run has been run."""


def find_order(
    modules: Mapping[str, nn.Module],
    run: RunBatch,
    batches: Sequence[Any],
    advance: Callable[[], None] = lambda: None,
) -> Order:
    """Return the order of blocks, seen on one short sample of the first batch.

    Whether a later block gets a block's outputs is found by putting NaN in their place, which takes
    one pass for each block; all others are replayed, and a pass ends with the last of them. Where
    blocks act on others besides by what they give, none is ever replayed.

    Calls depend on values where another sample makes others, or where zeros in place of what the
    blocks give do. Text is cut to 16 tokens. The whole batch is taken where blocks are called more
    often for two samples, or for more tokens, and where one sample does not reach all of them; all
    batches are run where the first does not reach them either.

    Args:
        modules: the blocks, name to module; none within another.
        run: calls the network on a batch.
        batches: each as the network takes it.
        advance: is called for each block.
    """
    probe, other, calls, alike = _probe(modules, run, batches[0])
    order = tuple(dict.fromkeys(calls))
    if order and (not alike or len(order) < len(modules)):
        order = _order_of_all(modules, run, batches)
        alike = alike and len(order) == len({*calls})
    by_values = Order(counts=dict.fromkeys(order, 0), last={})
    if not (alike and order):
        return by_values
    taken, given = _seen(modules, run, probe, len(calls))
    more = len(calls) + (calls.count(calls[-1]) > 1)  # one call more would be seen
    able = _able(calls)
    if not _keeps_shapes(modules, run, probe, more, taken, {name: given[name] for name in able}):
        return by_values
    if other is not None:
        # What blocks do besides giving outputs is now that of another sample; where it reaches
        # others, replayed blocks do not show it, so that all are to be run.
        if [name for name, *_ in _seen(modules, run, other, more)[0]] != calls:
            return by_values
        replayed: list[Any] = []
        with suppress(Exception):  # user code may fail on what belongs to another sample
            settled = {name: given[name] for name in able}
            replayed, _ = _seen(modules, run, probe, len(calls), settled)
        able = able if _same(taken, replayed) else []
    reached_by = partial(_reached_by, modules, run, probe, given, able, len(calls))
    # Masks may hold NaN by themselves: blocks that they reach say nothing.
    plain = reached_by(None) or set()
    last = {}
    for name in able:
        # Integers have no NaN, so that such outputs are kept for good.
        whole = all(t.is_floating_point() for t in nested.tensors(given[name]))
        reached = reached_by(name) if whole else None
        known = reached is not None and reached.issubset(order)  # NaN may be sent elsewhere
        places = [order.index(other) for other in (reached or set()) - plain if known]
        last[name] = max([-1, *places]) if known else len(order)
        advance()
    return Order(counts={name: calls.count(name) for name in order}, last=last)


def _able(calls: Sequence[str]) -> list[str]:
    """Return the blocks that are not called again after a later one has begun."""
    order = list(dict.fromkeys(calls))
    ends = {name: len(calls) - 1 - calls[::-1].index(name) for name in order}
    return [
        name
        for i, name in enumerate(order)
        if all(ends[name] < calls.index(later) for later in order[i + 1 :])
    ]


def _order_of_all(
    modules: Mapping[str, nn.Module], run: RunBatch, batches: Sequence[Any]
) -> tuple[str, ...]:
    """Return the order of the blocks that any batch calls, each after the one called before it."""
    order: list[str] = []
    for batch in batches:
        place = 0
        for name in dict.fromkeys(calls_of(modules, run, batch)):
            if name not in order:
                order.insert(place, name)
            place = order.index(name) + 1
    return tuple(order)


def run_quietly(run: RunBatch, batch: Any) -> None:
    """Run a network on a copy of a batch, without gradients, until it ends or raises `Reached`."""
    with torch.no_grad(), layers_called(), suppress(Reached):
        run(nested.copied(batch))


def _probe(
    modules: Mapping[str, nn.Module], run: RunBatch, batch: Any
) -> tuple[Any, Any | None, list[str], bool]:
    """Return the least that shows the calls of a batch, the same of another sample, the calls.

    And, where the least is the whole batch, whether two of its samples make the same calls.
    """
    two = next(cut(batch, 2))
    one, *others = cut(two, 1)
    for probe, more in (_shortened(one, two), (one, two)):
        # Where the least does not run, all of it may; its warnings are not those of the run.
        with suppress(InputError), warnings.catch_warnings(action="ignore"):
            calls = [] if probe is None else calls_of(modules, run, probe)
            if set(calls) == set(modules) and calls == calls_of(modules, run, more):
                short = _shortened(others[0], two)[0] if others and probe is not one else None
                return probe, short or next(iter(others), None), calls, True
    alike = True
    with suppress(InputError), warnings.catch_warnings(action="ignore"):
        alike = not others or calls_of(modules, run, one) == calls_of(modules, run, others[0])
    return batch, None, calls_of(modules, run, batch), alike


def _shortened(one: Any, two: Any) -> tuple[Any, Any]:
    """Return one sample and two with shorter sequences, None where none is seen or is padded."""
    ids = one.get("input_ids") if isinstance(one, Mapping) else None
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] <= max(_LENGTHS):
        return None, None
    size, shown = ids.shape[1], one.get("attention_mask")
    if isinstance(shown, Tensor) and not bool(shown[..., : max(_LENGTHS)].all()):
        return None, None

    def cut_to(length: int, tensor: Tensor) -> Tensor:
        for axis in range(1, tensor.ndim):
            if tensor.shape[axis] == size:
                tensor = tensor.narrow(axis, 0, length)
        return tensor

    longer, shorter = (partial(cut_to, length) for length in _LENGTHS)
    return nested.map_tensors(longer, one), nested.map_tensors(shorter, two)


def calls_of(modules: Mapping[str, nn.Module], run: RunBatch, batch: Any) -> list[str]:
    """Return the names of the blocks as a batch calls them."""
    calls: list[str] = []
    with ExitStack() as stack:
        for name, module in modules.items():
            begun = module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
            stack.enter_context(begun)
        run_quietly(run, batch)
    return calls


@contextmanager
def _ended(modules: Mapping[str, nn.Module], calls: int) -> Iterator[None]:
    """End passes of a block of code after so many calls of modules."""
    left = calls

    def called(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Reached

    with ExitStack() as stack:
        for module in modules.values():
            stack.enter_context(module.register_forward_hook(called))
        yield


def _seen(
    modules: Mapping[str, nn.Module],
    run: RunBatch,
    batch: Any,
    calls: int,
    replayed: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> tuple[list[Any], dict[str, list[Any]]]:
    """Return all calls in order, (name, args, kwargs), and by block what it gives, call by call.

    The blocks `replayed` are not run and give that.
    """
    taken: list[Any] = []
    given: dict[str, list[Any]] = {name: [] for name in modules}

    def note_arguments(name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
        taken.append((name, *nested.copied((args, kwargs))))

    def note(name: str, _module: nn.Module, _args: object, outputs: Any) -> None:
        given[name].append(nested.copied(outputs))

    with ExitStack() as stack:
        for name, module in modules.items():
            hook = partial(note_arguments, name)
            stack.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
            stack.enter_context(module.register_forward_hook(partial(note, name)))
        for name, outputs in replayed.items():
            stack.enter_context(_replaying(modules[name], outputs))
        stack.enter_context(_ended(modules, calls))
        run_quietly(run, batch)
    return taken, given


def _keeps_shapes(
    modules: Mapping[str, nn.Module],
    run: RunBatch,
    batch: Any,
    calls: int,
    taken: Sequence[Any],
    given: Mapping[str, Sequence[Any]],
) -> bool:
    """Return whether calls, and shapes of arguments, are the same where blocks give zeros."""
    zeros = {name: nested.map_tensors(torch.zeros_like, outputs) for name, outputs in given.items()}
    try:
        found, _ = _seen(modules, run, batch, calls, zeros)
    except Exception:  # noqa: BLE001 (what belongs to other values may not fit)
        return False
    ours, theirs = (
        [(name, [t.shape for t in nested.tensors(rest)]) for name, *rest in listed]
        for listed in (taken, found)
    )
    return ours == theirs


def _same(taken: Sequence[Any], replayed: Sequence[Any]) -> bool:
    """Return whether the tensors among arguments are the same; NaN is NaN."""
    ours, theirs = ([*nested.tensors([*listed])] for listed in (taken, replayed))
    return len(ours) == len(theirs) and all(
        torch.equal(a, b)
        or (
            a.shape == b.shape
            and a.is_floating_point()
            and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        )
        for a, b in zip(ours, theirs, strict=True)
    )


def _reached_by(
    modules: Mapping[str, nn.Module],
    run: RunBatch,
    batch: Any,
    given: Mapping[str, Sequence[Any]],
    able: Sequence[str],
    calls: int,
    poisoned: str | None,
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
            for name, module in modules.items():
                hook = partial(note, name)
                stack.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
            for name in able:
                made = _poisoned if name == poisoned else torch.clone
                stack.enter_context(_replaying(modules[name], given[name], made))
            stack.enter_context(_ended(modules, calls))
            run_quietly(run, batch)
    except Exception:  # noqa: BLE001 (a network may do anything with NaN)
        return None
    return reached


def _replaying(
    module: nn.Module,
    outputs: Sequence[Any],
    made: Callable[[Tensor], Tensor] = torch.clone,
) -> AbstractContextManager[None]:
    """Let a block give outputs, call by call, for a block of code."""
    left = iter(outputs)
    return forward_replaced(module, lambda *_, **__: nested.copied(next(left), made))


def _poisoned(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan)
