"""Which way each tensor's rows are had: the fastest that agrees with one backward per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.collect.batched import BatchedBackward, Uses, summed
from chita.collect.improved import divided, errors_by_rows
from chita.collect.looking import looks_noticed
from chita.collect.rules import positions
from chita.collect.rules.linear import linear
from chita.collect.separate import Objective, by_loop, by_vmap, losses_by_vmap
from chita.data.examples import Examples
from chita.errors import ChitaError
from chita.layout import Layout
from chita.losses import Loss, OutputLoss

WAYS = ("factored", "rule", "vmap", "loop")
"""The ways, the fastest first."""

_PROBED = 2  # rows on which a way must agree with one backward per row
_CHUNK_BYTES = 64 << 20  # gradients in flight
_CHUNK_SAMPLES = 48  # samples in flight, for the activations
_FACTORED_SAMPLES = 512  # where all layers see one position, whose activations are few

_LOOPED = 16  # rows had one by one before they are written, p-major: a line of cache

Factors = tuple[Tensor, Tensor]
"""δ (r, out) and x (r, in), whose outer products are the gradients of r rows."""


class FactorsChanged(ChitaError):
    """A layer saw one position per row at first, and then several."""


Take = Callable[[str, Tensor | Factors], None]
"""Is given the name of a tensor and its gradients of r rows, (r, *shape), or their factors."""


@final
class Ways:
    """Decides on the first rows of every part of the examples, then runs batches.

    Fields: `of`, name to one of `WAYS`; `factors`, name to (out, in) of those factored; `chunk`,
    rows to run at a time.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        loss: Loss,
        examples: Examples,
        row_size: int,
        fastest: str,
        *,
        improved: bool = False,
    ) -> None:
        self._objective = Objective(model, loss)
        self._weights = {name: model.get_parameter(name) for name in layout.names}
        self._row_size, self._improved = row_size, improved
        self._batched: BatchedBackward | None = None
        self.of = dict.fromkeys(layout.names, "loop")
        self.factors: dict[str, tuple[int, int]] = {}
        probes = list(examples.firsts(_PROBED * row_size))
        if isinstance(loss, OutputLoss) and WAYS.index(fastest) < 2:
            self._batched = BatchedBackward(model, loss, layout.names, row_size)
            self._use_rules(probes, factored=fastest == "factored")
        self._rest = {name: self._weights[name] for name, way in self.of.items() if way == "loop"}
        if self._rest and fastest != "loop" and all(self._vectorises(probe) for probe in probes):
            self.of.update(dict.fromkeys(self._rest, "vmap"))
        self.chunk = self._chunk(dict(zip(layout.names, layout.counts, strict=True)))

    def run(self, batch: Any, take: Take) -> tuple[Tensor, Tensor]:
        """Give the gradients of a batch to `take`, by tensors; losses and divisors (r,) of rows."""
        divisors: Tensor | None = None
        if self._batched is not None and self._batched.places:
            losses, errors = self._batched.run(
                batch, lambda *uses: self._give(take, *uses), improved=self._improved
            )
            divisors = errors if self._improved else None
        if self._rest:
            vectorised = "vmap" in self.of.values()
            way = by_vmap if vectorised else by_loop
            gradients, losses = way(self._objective, self._rest, self._row_size, batch)
            if divisors is None and self._improved:
                divisors = self._errors(batch, vectorised=vectorised)
            for name, found in gradients.items():
                take(name, found if divisors is None else divided(found, divisors))
        return losses, torch.ones_like(losses) if divisors is None else divisors

    def _errors(self, batch: Any, *, vectorised: bool) -> Tensor:
        model, loss = self._objective.model, cast(OutputLoss, self._objective.loss)
        return errors_by_rows(model, loss, self._row_size, batch, vectorised=vectorised)

    def explain(self, batch: Any) -> None:
        """Run a batch row by row, so that a failure tells its place."""
        by_loop(self._objective, self._weights, self._row_size, batch)

    def _give(self, take: Take, name: str, uses: Uses, rows: int) -> None:
        if self.of[name] == "rule":
            take(name, summed(uses, rows, self._weights[name]))
        elif not _is_single(uses, rows):
            raise FactorsChanged(f"{name} is not used once, at one position, in every row.")
        else:
            x, delta = positions(uses[0].inputs, uses[0].delta, rows)
            take(name, (delta.squeeze(1), x.squeeze(1)))

    def _use_rules(self, probes: list[Any], *, factored: bool) -> None:
        """Let rules serve the tensors for which they agree with one backward per row."""
        assert self._batched is not None
        agreeing, single = set(self._batched.places), set(self._batched.places)
        for probe in probes:
            try:
                with looks_noticed() as looks:
                    uses, rows = self._uses(self._batched, probe)
                if looks.seen:  # it might treat a batch as it treats no row
                    losses_by_vmap(self._objective, self._row_size, probe)
            except Exception:  # noqa: BLE001 (the loop either works, or fails with the reason)
                agreeing = set()
                break
            expected, _ = by_loop(self._objective, self._weights, self._row_size, probe)
            agreeing = {n for n in agreeing if _agree(uses[n], rows, expected[n])}
            single = {n for n in agreeing & single if _is_single(uses[n], rows)}
        self._batched.places = {n: p for n, p in self._batched.places.items() if n in agreeing}
        for name in agreeing:
            shape = self._weights[name].shape
            if factored and name in single and worth_factoring(shape):
                self.of[name], self.factors[name] = "factored", (shape[0], shape[1])
            else:
                self.of[name] = "rule"

    def _uses(self, batched: BatchedBackward, probe: Any) -> tuple[dict[str, Uses], int]:
        """The uses of all weights; channels stay where they are if the network asks for that."""
        found: dict[str, Uses] = {}

        def take(name: str, uses: Uses, _rows: int) -> None:
            found[name] = uses

        try:
            losses, _ = batched.run(probe, take)
        except Exception:  # views of activations fail in another layout
            if not batched.channels_last:
                raise
            batched.channels_last = False
            losses, _ = batched.run(probe, take)
        return found, len(losses)

    def _vectorises(self, probe: Any) -> bool:
        """Whether torch.func can differentiate the rest."""
        if nested.count(probe) is None:
            return False
        try:
            by_vmap(self._objective, self._rest, self._row_size, probe)
        except Exception:  # noqa: BLE001 (the loop either works, or fails with the reason)
            return False
        return True

    def _chunk(self, counts: Mapping[str, int]) -> int:
        rest = sum(counts[name] for name in self._rest)
        ruled = max((counts[n] for n, way in self.of.items() if way == "rule"), default=1)
        if set(self.of.values()) == {"factored"}:
            return max(1, _FACTORED_SAMPLES // self._row_size)
        chunk = chunk_rows(max(rest, ruled), self._row_size)
        return min(chunk, _LOOPED) if "loop" in self.of.values() else chunk


def chunk_rows(p: int, row_size: int) -> int:
    """Return how many rows of p weights are differentiated at a time."""
    return max(1, min(_CHUNK_BYTES // (4 * p), _CHUNK_SAMPLES // row_size))


def worth_factoring(shape: Sequence[int]) -> bool:
    """Return whether a matrix's factors take at most a quarter of the room of their products."""
    return len(shape) == 2 and 4 * (shape[0] + shape[1]) <= shape[0] * shape[1]


def _agree(uses: Uses, rows: int, expected: Tensor) -> bool:
    """Whether rules give the gradients expected of r rows, (r, *shape)."""
    try:
        found = summed(uses, rows, expected[0])
    except Exception:  # noqa: BLE001 (a layer used in a way that its rule does not know)
        return False
    if found.shape != expected.shape:
        return False
    share = 1e-3 if expected.dtype.itemsize >= 4 else 0.1
    return bool((found - expected).abs().max() <= share * expected.abs().max())


def _is_single(uses: Uses, rows: int) -> bool:
    """Whether a weight is that of one linear layer, called once, with one position in every row."""
    if len(uses) != 1 or uses[0].place.rule is not linear or uses[0].place.attribute != "weight":
        return False
    return positions(uses[0].inputs, uses[0].delta, rows)[0].shape[1] == 1
