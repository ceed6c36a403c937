"""Prune a network layer by layer: each so that what it gives changes least."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.collect.chain import Chain
from chita.collect.inputs import InputGrams, Seen
from chita.constraints import Budget, ByOutliers, Constraint
from chita.errors import NumericalError
from chita.layout import Layout
from chita.models.prunable import read_weights, write_weights
from chita.models.units import Unit, units_of
from chita.problem import InputGram, LocalQuadratic
from chita.progress import RUN_SECONDS_LEFT, Progress, track
from chita.pruning.config import AUTO
from chita.pruning.layers import Layer, constraints_of, layers_of
from chita.pruning.outliers import outlier_shares
from chita.pruning.pose import Pose
from chita.pruning.ridge import Ridge
from chita.records import SolvedRecord, finite, peak_rss_mb
from chita.solvers import Solution, Solver

RIDGE = "0.01x"
"""λ of a layer's problem unless given, the damping of SparseGPT and ALPS."""

_RAISED = 10.0  # by which λ grows where a system cannot be solved
_LEAST = 1e-6  # of the mean diagonal, to which it is raised at first
_TRIES = 8


@final
class LayerwiseRun:
    """Prunes the layers of a network, in place, in the order in which it calls their units.

    All layers of a unit (`chita.models.units`) are pruned on the inputs that they get while the
    units before it are pruned and it is not yet.

    Args:
        network: in eval mode.
        layout: the weights to prune.
        budget: of which every layer has its share.
        solver: of every layer's problem.
        pose: λ as asked for, `RIDGE` for "auto"; other fields have no part.
        run, batches, limit: as `chita.collect.chain.Chain` takes them.
        progress: told of every unit.
        shares: of outliers, where a budget goes by them and they are known already.

    A layer that is never called is left dense; so is one that saw fewer inputs than it has inputs
    to weigh, where others of its unit saw enough (an expert that few tokens are sent to). λ is
    raised by factors of 10 where a system cannot be solved with it. The records tell of all three.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        *,
        budget: Budget,
        solver: Solver,
        pose: Pose,
        run: Callable[[Any], object],
        batches: Sequence[Any],
        limit: int,
        progress: Progress,
        shares: dict[str, float] | None = None,
    ) -> None:
        self._network = network
        self._solver, self._progress, self._batches = solver, progress, batches
        self._ridge = Ridge.parse(RIDGE if pose.ridge == AUTO else pose.ridge)
        layers = layers_of(network, layout)
        self._layers = {layer.name: layer for layer in layers}
        self._units = {unit.name: unit for unit in units_of(network, layout.names)}
        self.shares = shares
        if isinstance(budget, ByOutliers):
            units = tuple(self._units.values())
            self.shares = shares or outlier_shares(self._layers, units, run, batches, progress)
            budget = replace(budget, shares=self.shares)
        constraints = constraints_of(budget, layers)
        self._constraints = dict(zip(self._layers, constraints, strict=True))
        modules = {name: network.get_submodule(name) for name in self._units}
        with track(progress, "order of units", len(modules), "units"):
            self._chain = Chain(modules, run, batches, limit)
            progress.advance(len(self._chain.order))
        self.masks = {
            name: torch.ones(shape, dtype=torch.bool)
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        }
        self.solved: dict[str, SolvedRecord] = {}
        self.seconds = {"collect": 0.0, "solve": 0.0}
        self.memory_mb: dict[str, float] = {}

    def run(self, finished: Callable[[LayerwiseRun], None] = lambda _: None) -> None:
        """Prune all layers that `solved` does not hold yet; `finished` is told of each unit."""
        order = self._chain.order
        left = sum(self._units[name].tensors[0] not in self.solved for name in order)
        began, units = time.perf_counter(), left
        for place, name in enumerate(order):
            unit = self._units[name]
            task = f"{name or 'the network'}, {place + 1} of {len(order)}"
            if unit.tensors[0] not in self.solved:
                self._prune(unit, task)
                finished(self)
                left -= 1
                if self._alike:
                    spent = (time.perf_counter() - began) / (units - left)
                    self._progress.tell(task, {RUN_SECONDS_LEFT: spent * left})
            if place + 1 < len(order):
                with (
                    self._timed("collect"),
                    track(self._progress, f"{task}: run", len(self._batches), "batches"),
                ):
                    for _ in self._chain.settle(name):
                        self._progress.advance(1)
        for unit in self._units.values():
            for tensor in unit.tensors:
                self.solved.setdefault(tensor, SolvedRecord(inputs=0, left="is never called"))

    @property
    def _alike(self) -> bool:
        """Whether all units have tensors of the same shapes, and so take about the same time."""
        units = [self._units[name].tensors for name in self._chain.order]
        return len({tuple(self.masks[name].shape for name in names) for names in units}) == 1

    def _prune(self, unit: Unit, task: str) -> None:
        grams = InputGrams({name: self._layers[name].module for name in unit.tensors})
        with (
            self._timed("collect"),
            grams.watching(),
            track(self._progress, f"{task}: inputs", len(self._batches), "batches"),
        ):
            for _ in self._chain.passes(unit.name):
                self._progress.advance(1)
        most = max(grams.of(name).count for name in unit.tensors)
        with (
            self._timed("solve"),
            track(self._progress, f"{task}: solve", len(unit.tensors), "layers"),
        ):
            for name in unit.tensors:
                solved = self._solve(self._layers[name], grams.of(name), most)
                self.solved[name] = solved
                self._progress.advance(1)
                if solved.error is not None:
                    self._progress.tell(name, {"error": solved.error})

    def _solve(self, layer: Layer, seen: Seen, most: int) -> SolvedRecord:
        """Prune one layer, and tell what came of it."""
        reason = _left_dense(seen, most)
        if reason is not None:
            return SolvedRecord(inputs=seen.count, left=reason)
        own = Layout(
            names=(layer.name,),
            shapes=(tuple(self.masks[layer.name].shape),),
            axes=layer.canonical.axes,
        )
        w_bar = layer.taken(read_weights(self._network, own))
        curvature = InputGram(seen.gram.to(w_bar.device), layer.outputs, dtype=w_bar.dtype)
        problem, solution = self._solved(w_bar, curvature, self._constraints[layer.name]())
        write_weights(self._network, own, layer.given(solution.weights))
        # Into memory that was there before: what lasts must not lie between what is given back.
        self.masks[layer.name].view(-1).copy_(layer.given(solution.mask))
        change = solution.weights - w_bar
        whole = curvature.inner(w_bar, w_bar)
        return SolvedRecord(
            inputs=seen.count,
            error=curvature.inner(change, change) / whole if whole > 0 else None,
            objective=solution.objective,
            ridge=problem.ridge,
            status=solution.status,
            trace=tuple(map(finite, solution.stats.trace)),
            seconds=solution.stats.seconds,
            raised=problem.ridge != self._ridge.of(curvature),
        )

    def _solved(
        self, w_bar: Tensor, curvature: InputGram, constraint: Constraint
    ) -> tuple[LocalQuadratic, Solution]:
        """The solution, at a larger λ where a system cannot be solved at that asked for."""
        ridge = self._ridge.of(curvature)
        mean = float(curvature.exact.diagonal(dim1=1, dim2=2).mean())
        for attempt in range(_TRIES):
            problem = LocalQuadratic(
                w_bar=w_bar, curvature=curvature, ridge=ridge, shift=curvature.constant(0.0)
            )
            try:
                return problem, self._solver.solve(problem, constraint)
            except NumericalError:
                if attempt == _TRIES - 1:
                    raise
                ridge = max(_RAISED * ridge, _LEAST * mean)
        raise AssertionError

    def _timed(self, phase: str) -> _Timed:
        return _Timed(self, phase)


class _Timed:
    """Adds the time of a block to a phase of a run, and notes the peak of memory after it."""

    def __init__(self, run: LayerwiseRun, phase: str) -> None:
        self._run, self._phase = run, phase

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._run.seconds[self._phase] += time.perf_counter() - self._began
        peak = peak_rss_mb()
        if peak is not None:
            self._run.memory_mb[self._phase] = peak


def _left_dense(seen: Seen, most: int) -> str | None:
    """Why a layer is not pruned, None where it is; `most` is the most that one of its unit saw."""
    if not seen.count:
        return "saw no input"
    if not bool(seen.gram.any()):
        return "saw zeros alone"
    width = seen.gram.shape[1]
    if seen.count < width <= most:
        return f"saw {seen.count} inputs, fewer than the {width} entries of each"
    return None
