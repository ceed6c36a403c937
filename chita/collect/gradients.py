"""The gradients of rows of samples, as a matrix A."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.backends import Backends, FactorsChanged, RowParts
from chita.collect.determinism import check_deterministic, check_modes
from chita.collect.inputs import all_seen
from chita.collect.positioned import positioned_tensors
from chita.collect.sample_parts import PartsCheck
from chita.collect.store import RowStore
from chita.data.examples import Examples
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.linalg.select import as_it_lies, largest_magnitude
from chita.losses import LOSSES, Loss
from chita.machine import available_memory, solving_device
from chita.models.forward import failures_named, first_not_finite
from chita.models.mode import layers_called
from chita.problem import Rows
from chita.progress import Progress, Silent, track


@final
@dataclass(frozen=True, kw_only=True)
class Collected:
    """Gradients of rows of samples, each divided by the norm of its gradient at the outputs.

    Fields: `rows`, A (n, p); `output_norms`, the e (n,) in float64 of `chita.collect.improved`,
    which are ones but for the improved Fisher, so that Aᵀe/n is the gradient of the mean loss in
    either case; `backends`, name to one of `backends.BACKENDS`, of all tensors; `unreached`, names
    of those whose gradients are all zero.
    """

    rows: Rows
    output_norms: Tensor
    backends: dict[str, str]
    unreached: tuple[str, ...] = ()


@layers_called()
def collect_gradients(
    model: nn.Module,
    layout: Layout,
    examples: Examples,
    *,
    samples_per_gradient: int = 1,
    loss: Loss = LOSSES["cross_entropy"],
    fastest: str = "factored",
    storage: torch.dtype | None = None,
    room: int | None = None,
    improved: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Return A (n, p): row i is the gradient of the **mean** loss of samples i·m to (i+1)·m - 1.

    n = N / m rows of m = `samples_per_gradient` samples each. Each tensor uses the first of these
    gradient backends that gives, on the first rows, what one backward per row gives:

    - "factored": a linear layer that sees one position per row: its outer products are not formed;
    - "positioned": a convolution, or a linear layer in a sequence, whose inputs and output
      gradients take less than the rows, where these find no room: rows are not formed either;
    - "rule": from inputs and output gradients of its layers in one backward over many rows;
    - "vmap": `torch.func`, many rows at a time;
    - "loop": one backward per row.

    The first three need a loss that compares outputs with targets. The matrix is written once,
    p-major, in the type that all weights promote to (float32 where that is a half type).

    Args:
        model: the network, in eval mode; it is not changed.
        layout: the weights to differentiate by.
        examples: N samples; N must be a multiple of m, in every part of one structure.
        samples_per_gradient: samples m per row.
        loss: mean loss over samples.
        fastest: the first backend to try.
        storage: a narrower type in which to keep what is not factored, None for none.
        room: bytes that the rows may take; None for those that are free, on the CPU.
        improved: divide every row by e, see `chita.collect.improved`; needs an `OutputLoss`.
        progress: gets every chunk of rows.

    Raises:
        InputError: a norm uses batch statistics, dropout is on, outputs are random, the forward
            pass fails, targets are out of range, each of which names the module; there is no
            room for the rows.
        NumericalError: a loss or a gradient is not finite; names the first module concerned.
    """
    _check_whole(examples, samples_per_gradient)
    check_modes(model)
    sample = next(examples.batches(samples_per_gradient))
    for part, first in zip(examples.parts, examples.firsts(samples_per_gradient), strict=True):
        with failures_named(model, first):
            loss.check(model, nested.copied(first), part)
    with failures_named(model, sample):
        check_deterministic(model, loss, sample)

    device = solving_device(model.get_parameter(layout.names[0]).device)
    count = len(examples) // samples_per_gradient
    if room is None and device.type == "cpu":
        room = available_memory()

    def collected(fastest: str) -> Collected:
        backends = Backends(
            model, layout, loss, examples, samples_per_gradient, fastest, improved=improved
        )
        kind = rows_type(model, layout)
        _find_room(backends, layout, count, (storage or kind, kind), room, all_seen(model, layout))
        held = {n: backends.outlines[n] for n, of in backends.of.items() if of == "positioned"}
        store = RowStore(layout, count, kind, device, backends.factors, storage, held)
        check = _GradientCheck(model, loss, layout)
        parts = PartsCheck(model, loss, samples_per_gradient)
        size = backends.chunk * samples_per_gradient
        filled, norms = 0, []
        with track(progress or Silent(), "collect gradients", count, "gradients") as shown:
            for batch in examples.batches(size):
                norms.append(_fill(store, backends, check, parts, batch, filled))
                filled += len(norms[-1])
                shown.advance(len(norms[-1]))
        unreached = check.check_all(examples.batches(size))
        output_norms = torch.cat(norms).to(device, torch.float64)
        return Collected(
            rows=store.rows(),
            output_norms=output_norms,
            backends=backends.of,
            unreached=unreached,
        )

    with suppress(FactorsChanged):  # the rows so far are let go before new ones are collected
        return collected(fastest)
    return collected("rule")


def _find_room(
    backends: Backends,
    layout: Layout,
    count: int,
    kinds: tuple[torch.dtype, torch.dtype],
    room: int | None,
    layers: bool,
) -> None:
    """Hold as many tensors positioned as must be. Raises as `positioned_tensors` does."""
    ask = "Pruning layer by layer takes the memory of one block: `solver` alps, sparsegpt or wanda."
    chosen = positioned_tensors(
        dict(zip(layout.names, layout.counts, strict=True)),
        backends.outlines,
        backends.factors,
        rows=count,
        bytes_each=(kinds[0].itemsize, kinds[1].itemsize),
        room=room,
        advice=f"{ask} Or lower" if layers else "Lower",
    )
    backends.hold(chosen)


def rows_type(model: nn.Module, layout: Layout) -> torch.dtype:
    """Return the type of the rows: that to which all weights promote, float32 at least."""
    types = (model.get_parameter(name).dtype for name in layout.names)
    return reduce(torch.promote_types, types, torch.float32)


def _fill(
    store: RowStore,
    backends: Backends,
    check: _GradientCheck,
    parts: PartsCheck,
    batch: Any,
    filled: int,
) -> Tensor:
    """Write the rows of a batch from row `filled` on, and return their output-gradient norms."""

    def take(name: str, found: RowParts) -> None:
        check.saw(name, found)
        store.write(name, filled, found)

    try:
        losses, norms = backends.run(batch, take)
    except FactorsChanged:
        raise
    except Exception:
        backends.explain(batch)
        raise
    check.batch_done(losses, batch)
    parts.compare(losses, batch)
    return norms


class _GradientCheck:
    """A search for values that are not finite, and for gradients that are all zero.

    On an accelerator it looks when all is done, so that the loop over batches never waits.
    """

    def __init__(self, model: nn.Module, loss: Loss, layout: Layout) -> None:
        self._model, self._loss = model, loss
        self._largest = dict.fromkeys(
            layout.names, torch.zeros((), dtype=torch.float32, device="cpu")
        )
        self._lost: list[Tensor] = []
        self._waits = model.get_parameter(layout.names[0]).device.type == "cpu"

    def saw(self, name: str, found: RowParts) -> None:
        """Gradients of a tensor, their factors, or what it was used on."""
        if isinstance(found, list):
            products: list[tuple[Tensor, ...]] = [(use.centres, use.seen) for use in found]
        else:
            products = [found if isinstance(found, tuple) else (found,)]
        bound = reduce(torch.add, (reduce(torch.mul, map(self._bound, p)) for p in products))
        self._largest[name] = torch.maximum(self._largest[name].to(bound), bound)

    def batch_done(self, losses: Tensor, batch: Any) -> None:
        """A batch has been seen, whose rows have these losses."""
        self._lost.append((~torch.isfinite(losses)).sum())
        if self._waits:
            self._check(batch)

    def check_all(self, batches: Any) -> tuple[str, ...]:
        """All batches have been seen: raise what was found; return tensors without a gradient."""
        if not self._waits and self._faulty():
            for batch in batches:
                copied = nested.copied(batch)
                with torch.no_grad():
                    loss = self._loss.mean(self._model, copied)
                if not bool(torch.isfinite(loss)):
                    break
            self._check(batch)
        unreached = tuple(name for name, value in self._largest.items() if not bool(value > 0))
        if len(unreached) == len(self._largest):
            raise InputError(
                "All gradients are zero: the loss does not depend on the weights to prune. Is the "
                "forward pass under no_grad, or detached, or its loss constant, or that of another "
                "network than the one it is called with? Where the loss compares samples with "
                "each other, a single one has none: give `samples_per_gradient` above 1. A student "
                "that is its teacher has none either."
            )
        return unreached

    def _bound(self, part: Tensor) -> Tensor:
        """Return a bound on the absolute values of a tensor's entries.

        It is zero only if all entries are zero, and not finite only if an entry is not.
        """
        if self._waits:  # the norm is had in a third of the time, but squares can overflow
            flat = as_it_lies(part).reshape(-1)
            squared = torch.dot(flat, flat)
            if 0 < float(squared) < math.inf:
                return squared.sqrt()
        return largest_magnitude(part)

    def _faulty(self) -> bool:
        sums = torch.stack([*self._lost, *(~v.isfinite() for v in self._largest.values())])
        return bool(sums.any())

    def _check(self, batch: Any) -> None:
        lost = int(torch.stack(self._lost).sum())
        if lost:
            copied = nested.copied(batch)
            place = first_not_finite(self._model, lambda: self._loss.mean(self._model, copied))
            raise NumericalError(
                f"The loss of {lost} rows is not finite; the first value that is not finite comes "
                f"from {place}. Check its weights and the inputs, and that every row has a label "
                "that counts (-100 does not)."
            )
        for name, value in self._largest.items():
            if not bool(torch.isfinite(value)):
                raise NumericalError(
                    f"The gradient of {name} is not finite though the loss is. Check the network's "
                    "operations near that layer."
                )
        self._lost = []


def _check_whole(examples: Examples, samples_per_gradient: int) -> None:
    if samples_per_gradient < 1 or len(examples) % samples_per_gradient:
        raise InputError(
            f"{len(examples)} samples do not make whole gradients of {samples_per_gradient}; give "
            "a multiple."
        )
    if any((nested.count(part) or 1) % samples_per_gradient for part in examples.parts):
        raise InputError(
            f"Gradients of {samples_per_gradient} samples would mix batches of different shapes: "
            f"{'; '.join(nested.described(part) for part in examples.parts[:3])}, ... Bring the "
            "samples to one shape (pad), or set `samples_per_gradient` to 1."
        )
