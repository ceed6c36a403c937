"""The gradient backend of every tensor: the fastest that agrees with one backward per row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.batched import BatchedBackward, Uses, summed
from chita.collect.data_dependence import watch_data_dependence
from chita.collect.improved import divided, output_norms_by_rows
from chita.collect.positioned import Outline, outlines_of, positions_of
from chita.collect.rules import positions
from chita.collect.rules.linear import linear
from chita.collect.separate import LossModule, by_loop, by_vmap, of_each_row
from chita.data.examples import Examples
from chita.errors import ChitaError
from chita.layout import Layout
from chita.losses import Loss, OutputLoss
from chita.problem import Positions

BACKENDS = ("factored", "positioned", "rule", "vmap", "loop")
"""The gradient backends, the fastest first."""

_PROBED = 2  # rows on which a backend must agree with one backward per row
_UNSEEN = 0.1  # of the largest gradient: more than a ReLU that rounding turns on or off changes
_CHUNK_BYTES = 64 << 20  # gradients in flight
_CHUNK_SAMPLES = 48  # samples in flight, for the activations
_FACTORED_SAMPLES = 512  # where all layers see one position, whose activations are few
_USED_BYTES = 512e6  # of what layers were used on, and of as much again beside
_LOOPED = 16  # rows had one by one before they are written, p-major: a line of cache

Factors = tuple[Tensor, Tensor]
"""δ (r, out) and x (r, in), whose outer products are the gradients of r rows."""


RowParts = Tensor | Factors | list[Positions]
"""Gradients of r rows, (r, *shape), their factors, or what each use of a tensor was used on."""


class FactorsChanged(ChitaError):
    """A layer was used otherwise at first: once, at one position, or on samples of one size."""


TakeGradients = Callable[[str, RowParts], None]
"""Is given the name of a tensor and what was found of r rows."""


@final
class Backends:
    """The backends of all tensors, chosen on the first rows of every part of the examples.

    Fields: `of`, name to one of `BACKENDS`; `factors`, name to (out, in) of those factored;
    `outlines`, of those that could be positioned, of which `hold` says which are.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        loss: Loss,
        examples: Examples,
        samples_per_gradient: int,
        fastest: str,
        *,
        improved: bool = False,
    ) -> None:
        self._module = LossModule(model, loss)
        self._weights = {name: model.get_parameter(name) for name in layout.names}
        self._samples_per_gradient, self._improved = samples_per_gradient, improved
        self._batched: BatchedBackward | None = None
        self.of = dict.fromkeys(layout.names, "loop")
        self.factors: dict[str, tuple[int, int]] = {}
        self.outlines: dict[str, list[Outline]] = {}
        self._used = 0.0  # bytes of what layers were used on, of a row
        self._counts = dict(zip(layout.names, layout.counts, strict=True))
        probes = list(examples.firsts(_PROBED * samples_per_gradient))
        if isinstance(loss, OutputLoss) and BACKENDS.index(fastest) < 3:
            self._batched = BatchedBackward(model, loss, layout.names, samples_per_gradient)
            self._use_rules(self._batched, probes, BACKENDS[BACKENDS.index(fastest) :])
        self._rest = {n: self._weights[n] for n, backend in self.of.items() if backend == "loop"}
        if self._rest and fastest != "loop" and self._vectorise(probes):
            self.of.update(dict.fromkeys(self._rest, "vmap"))

    def hold(self, names: Collection[str]) -> None:
        """Give what these tensors, which have an outline, were used on, and not their rows."""
        self.of.update(dict.fromkeys(names, "positioned"))

    def run(self, batch: Any, take: TakeGradients) -> tuple[Tensor, Tensor]:
        """Give the gradients of a batch to `take`, by tensors; return losses and e (r,) of rows.

        e are ones where the Fisher is not the improved one.
        """
        norms: Tensor | None = None
        size = self._samples_per_gradient
        if self._batched is not None and self._batched.holders:
            give = partial(self._give, take)
            losses, norms = self._batched.run(batch, give, improved=self._improved)
        if self._rest:
            vectorised = "vmap" in self.of.values()
            separate = by_vmap if vectorised else by_loop
            gradients, losses = separate(self._module, self._rest, size, batch)
            if norms is None and self._improved:
                loss = cast(OutputLoss, self._module.loss)
                norms = output_norms_by_rows(
                    self._module.model, loss, size, batch, vectorised=vectorised
                )
            for name, found in gradients.items():
                take(name, found if norms is None else divided(found, norms))
        return losses, torch.ones_like(losses) if norms is None else norms

    def explain(self, batch: Any) -> None:
        """Run a batch row by row, so that a failure names its module."""
        by_loop(self._module, self._weights, self._samples_per_gradient, batch)

    def _give(self, take: TakeGradients, name: str, uses: Uses, rows: int) -> None:
        if self.of[name] == "rule":
            take(name, summed(uses, rows, self._weights[name]))
        elif self.of[name] == "positioned":
            if outlines_of(uses, rows) != self.outlines[name]:
                raise FactorsChanged(f"{name} is not used on samples of one size.")
            take(name, [held for use in uses if (held := positions_of(use, rows)) is not None])
        elif not _is_single(uses, rows):
            raise FactorsChanged(f"{name} is not used once, at one position, in every row.")
        else:
            x, delta = positions(uses[0].inputs, uses[0].delta, rows)
            take(name, (delta.squeeze(1), x.squeeze(1)))

    def _use_rules(
        self, batched: BatchedBackward, probes: list[Any], backends: Sequence[str]
    ) -> None:
        """Let rules serve the tensors for which they agree with one backward per row."""
        agreeing, single = set(batched.holders), set(batched.holders)
        outlines: list[dict[str, list[Outline] | None]] = []
        for probe in probes:
            try:
                with watch_data_dependence() as dependence:
                    uses, rows = batched.uses(probe)
                if dependence.seen:  # it might treat a batch as it treats no row
                    with torch.no_grad():
                        of_each_row(self._module, self._samples_per_gradient, probe)
            except Exception:  # noqa: BLE001 (the loop either works, or fails with the reason)
                agreeing = set()
                break
            expected, _ = by_loop(self._module, self._weights, self._samples_per_gradient, probe)
            differing = {n for n in agreeing if not _agree(uses[n], rows, expected[n])}
            if differing:
                agreeing -= differing - self._agreeing_exactly(differing, probe)
            single = {n for n in agreeing & single if _is_single(uses[n], rows)}
            outlines.append({n: outlines_of(uses[n], rows) for n in agreeing})
            self._used = max(self._used, _bytes_of(uses) / rows)
        batched.serve_only(agreeing)
        for name in agreeing:
            shape = self._weights[name].shape
            own = outlines[0][name]
            if "factored" in backends and name in single and worth_factoring(shape):
                self.of[name], self.factors[name] = "factored", (shape[0], shape[1])
                continue
            self.of[name] = "rule"
            same = own is not None and all(found[name] == own for found in outlines)
            if "positioned" in backends and own is not None and same:
                self.outlines[name] = own

    def _agreeing_exactly(self, names: Set[str], probe: Any) -> Set[str]:
        """Return the tensors for which rules agree in float64.

        In a deep network one ReLU that rounding turns on or off can change all gradients by a
        hundredth, and rows alone are not rounded as rows together are.
        """
        each, loss = self._samples_per_gradient, self._module.loss
        try:
            model = copy.deepcopy(self._module.model).double()
            weights = {name: model.get_parameter(name) for name in sorted(names)}
            batched = BatchedBackward(model, cast(OutputLoss, loss), list(weights), each)
            wide = nested.copied(
                probe, lambda t: t.double() if t.is_floating_point() else t.clone()
            )
            uses, rows = batched.uses(wide)
            expected, _ = by_loop(LossModule(model, loss), weights, each, wide)
        except Exception:  # noqa: BLE001 (a network or a loss of one type only)
            return set()
        return {name for name in names if _agree(uses[name], rows, expected[name])}

    def _vectorise(self, probes: list[Any]) -> bool:
        """Return whether torch.func can differentiate the rest, and sees all uses of it.

        It passes by those of a weight that is also held outside of parameters, as in a list.
        """
        if any(nested.count(probe) is None for probe in probes):
            return False
        separate = self._module, self._rest, self._samples_per_gradient
        try:
            found, *_ = [by_vmap(*separate, probe)[0] for probe in probes]
        except Exception:  # noqa: BLE001 (the loop either works, or fails with the reason)
            return False
        expected, _ = by_loop(*separate, probes[0])
        return all(_near(found[name], expected[name], _UNSEEN) for name in found)

    @property
    def chunk(self) -> int:
        """Rows to run at a time."""
        rest = sum(self._counts[name] for name in self._rest)
        ruled = (self._counts[n] for n, backend in self.of.items() if backend == "rule")
        if set(self.of.values()) == {"factored"}:
            return max(1, _FACTORED_SAMPLES // self._samples_per_gradient)
        chunk = chunk_rows(max(rest, *ruled, 1), self._samples_per_gradient)
        chunk = max(1, min(chunk, int(_USED_BYTES / max(self._used, 1.0))))
        return min(chunk, _LOOPED) if "loop" in self.of.values() else chunk


def chunk_rows(p: int, samples_per_gradient: int) -> int:
    """Return how many rows of p weights are differentiated at a time."""
    return max(1, min(_CHUNK_BYTES // (4 * p), _CHUNK_SAMPLES // samples_per_gradient))


def worth_factoring(shape: Sequence[int]) -> bool:
    """Return whether a matrix's factors take at most a quarter of the room of their products."""
    return len(shape) == 2 and 4 * (shape[0] + shape[1]) <= shape[0] * shape[1]


def _bytes_of(uses: Mapping[str, Uses]) -> int:
    """Return the bytes of inputs and output gradients of all uses, each tensor once."""
    held = [use.inputs for own in uses.values() for use in own]
    held += [use.delta for own in uses.values() for use in own]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in nested.tensors(held)}.values())


def _agree(uses: Uses, rows: int, expected: Tensor) -> bool:
    """Return whether rules give the gradients expected of r rows, (r, *shape)."""
    try:
        found = summed(uses, rows, expected[0])
    except Exception:  # noqa: BLE001 (a layer used in a way that its rule does not know)
        return False
    share = 1e-3 if expected.dtype.itemsize >= 4 else 0.1
    return found.shape == expected.shape and _near(found, expected, share)


def _near(found: Tensor, expected: Tensor, share: float) -> bool:
    """Return whether no gradient is further from that expected than a share of the largest one."""
    return bool((found - expected).abs().max() <= share * expected.abs().max())


def _is_single(uses: Uses, rows: int) -> bool:
    """Return whether a weight is of one linear layer, called once, with one position per row."""
    if len(uses) != 1 or (uses[0].holder.rule, uses[0].holder.attribute) != (linear, "weight"):
        return False
    return positions(uses[0].inputs, uses[0].delta, rows)[0].shape[1] == 1


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)
