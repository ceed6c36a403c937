"""Prune a network layer by layer: each so that what it gives changes least."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.collect.chain import Chain
from chita.collect.inputs import InputGrams, Seen, sees
from chita.collect.order import Order, find_order
from chita.constraints import Budget, ByOutliers, Constraint
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.models.blocks import NetworkBlock, holders, network_blocks
from chita.models.prunable import read_weights, write_weights
from chita.naming import listed
from chita.problem import InputGram, LocalQuadratic
from chita.progress import RUN_SECONDS_LEFT, Progress, track
from chita.pruning.config import AUTO, Ridge
from chita.pruning.layer_matrices import Layer, constraints_of, layers_of, outlier_shares
from chita.pruning.state import PhaseTimer
from chita.records import SolvedRecord, finite
from chita.solvers import Solution, Solver

RIDGE = "0.01x"
"""λ of a layer's problem unless given, the damping of SparseGPT and ALPS."""

_RAISED = 10.0  # by which λ grows where a system cannot be solved
_LEAST = 1e-6  # of the mean diagonal, to which it is raised at first
_TRIES = 8
_SHOWN = 5  # layers in a message


@final
class LayerPruner:
    """Prunes the layers of a network, in place, in the order in which it calls their blocks.

    All layers of a block (`chita.models.blocks`) are pruned on the inputs that they get while the
    blocks before it are pruned and it is not yet.

    Args:
        network: in eval mode.
        layout: the weights to prune.
        budget: of which every layer has its share.
        solver: of every layer's problem.
        ridge: λ as asked for, `RIDGE` for "auto".
        call: runs the network on a batch.
        batches, limit: as `chita.collect.chain.Chain` takes them.
        progress: receives every block.
        shares: of outliers, where a budget goes by them and they are known already.
        order: of the blocks, where it is known already.

    A layer that is never called is left dense; so is one whose outputs are not Wx + b, whatever
    its class, and one that saw fewer inputs than it has inputs to weigh, where others of its block
    saw enough (an expert that few tokens are sent to). λ is raised by factors of 10 where a system
    cannot be solved with it. The records show all of this.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        *,
        budget: Budget,
        solver: Solver,
        ridge: float | str,
        call: Callable[[Any], object],
        batches: Sequence[Any],
        limit: int,
        progress: Progress,
        shares: dict[str, float] | None = None,
        order: Order | None = None,
    ) -> None:
        self._network = network
        self._solver, self._progress, self._batches = solver, progress, batches
        self._ridge = Ridge.parse(RIDGE if ridge == AUTO else ridge)
        layers = layers_of(network, layout)
        self._layers = {layer.name: layer for layer in layers}
        self._blocks = {block.name: block for block in network_blocks(network, layout.names)}
        self.masks = {
            name: torch.ones(shape, dtype=torch.bool, device="cpu")
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        }
        self._outside = _held_outside(network, self._blocks)
        modules = {name: network.get_submodule(name) for name in self._blocks}
        self.timer = PhaseTimer({"order": 0.0, "collect": 0.0, "solve": 0.0})
        if order is None:
            with (
                self.timer.phase("order"),
                track(progress, "order of blocks", len(modules), "blocks"),
            ):
                order = find_order(modules, call, batches, lambda: progress.advance(1))
        self.order = order
        if not order.counts and budget.removed(layout) > 0:
            raise _none_pruned(self._never_called)
        self._chain = Chain(modules, call, batches, limit, order)
        self.shares = shares
        if isinstance(budget, ByOutliers):
            blocks = tuple(self._blocks.values())
            with self.timer.phase("outliers"):
                found = shares or outlier_shares(self._layers, blocks, call, batches, progress)
            self.shares = found
            budget = replace(budget, shares=found)
        constraints = constraints_of(budget, layers)
        self._constraints = dict(zip(self._layers, constraints, strict=True))
        self.solved: dict[str, SolvedRecord] = {}

    def run(self, finished: Callable[[LayerPruner], None] = lambda _: None) -> None:
        """Prune all layers that `solved` lacks; `finished` is called after each block."""
        order = self._chain.order
        took: dict[Any, list[float]] = {}  # seconds of blocks, by the shapes of their tensors
        for place, name in enumerate(order):
            block = self._blocks[name]
            task = f"{name or 'the network'}, {place + 1} of {len(order)}"
            began, pruned = time.perf_counter(), not self._is_done(block)
            if pruned:
                self._prune(block, task)
                finished(self)
            if place + 1 < len(order):
                with (
                    self.timer.phase("collect"),
                    track(self._progress, f"{task}: run", len(self._batches), "batches"),
                ):
                    for _ in self._chain.settle(name):
                        self._progress.advance(1)
            if pruned:
                took.setdefault(self._kind(name), []).append(time.perf_counter() - began)
                self._report(task, order[place + 1 :], took)
        self.solved |= {
            name: SolvedRecord(inputs=0, skipped=reason)
            for name, reason in self._never_called.items()
        }
        reasons = {n: s.skipped for n, s in self.solved.items() if s.skipped is not None}
        asked = any(not self._keeps_all(name) for name in self.solved)
        if asked and len(reasons) == len(self.solved):
            raise _none_pruned(reasons)

    @property
    def _never_called(self) -> dict[str, str]:
        """The tensors of blocks that the network never calls, each with that as the reason."""
        uncalled = self._blocks.keys() - self.order.counts.keys()
        return {
            tensor: "is never called"
            for name, block in self._blocks.items()
            for tensor in block.tensors
            if name in uncalled
        }

    def _keeps_all(self, name: str) -> bool:
        mask = self.masks[name].flatten()
        return self._constraints[name]().allows(mask)

    def _is_done(self, block: NetworkBlock) -> bool:
        return self.solved.keys() >= set(block.tensors)

    def _kind(self, name: str) -> tuple[torch.Size, ...]:
        """The shapes of a block's tensors: those of one kind take about the same time."""
        return tuple(self.masks[tensor].shape for tensor in self._blocks[name].tensors)

    def _report(self, task: str, left: Sequence[str], took: Mapping[Any, list[float]]) -> None:
        """Report the time left where blocks of all kinds that are left were pruned."""
        kinds = [self._kind(name) for name in left if not self._is_done(self._blocks[name])]
        if kinds and all(kind in took for kind in kinds):
            seconds = sum(statistics.fmean(took[kind]) for kind in kinds)
            self._progress.report(task, {RUN_SECONDS_LEFT: seconds})

    def _prune(self, block: NetworkBlock, task: str) -> None:
        grams = InputGrams({name: self._layers[name].modules for name in block.tensors})
        with (
            self.timer.phase("collect"),
            grams.watching(),
            track(self._progress, f"{task}: inputs", len(self._batches), "batches"),
        ):
            for _ in self._chain.passes(block.name):
                self._progress.advance(1)
        most = max(grams.of(name).count for name in block.tensors)
        with (
            self.timer.phase("solve"),
            track(self._progress, f"{task}: solve", len(block.tensors), "layers"),
        ):
            for name in block.tensors:
                solved = self._solve(self._layers[name], grams.of(name), most)
                self.solved[name] = solved
                self._progress.advance(1)
                if solved.error is not None:
                    self._progress.report(name, {"error": solved.error})

    def _solve(self, layer: Layer, seen: Seen, most: int) -> SolvedRecord:
        """Prune one layer, and return its record."""
        reason = self._outside.get(layer.name) or _left_dense(seen, most)
        if reason is not None:
            return SolvedRecord(inputs=seen.count, skipped=reason)
        own = Layout(
            names=(layer.name,),
            shapes=(tuple(self.masks[layer.name].shape),),
            axes=layer.canonical.axes,
        )
        w_bar = layer.taken(read_weights(self._network, own))
        curvature = InputGram(seen.gram.to(w_bar.device), layer.outputs, dtype=w_bar.dtype)
        problem, solution = self._solution(w_bar, curvature, self._constraints[layer.name]())
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
            ridge_raised=problem.ridge != self._ridge.of(curvature),
        )

    def _solution(
        self, w_bar: Tensor, curvature: InputGram, constraint: Constraint
    ) -> tuple[LocalQuadratic, Solution]:
        """Return the solution, at a larger λ where a system cannot be solved at that asked for."""
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


def _none_pruned(reasons: Mapping[str, str]) -> InputError:
    said = [f"{name} {reason}" for name, reason in reasons.items()]
    return InputError(
        f"No layer can be pruned layer by layer: {listed(said, _SHOWN, '; ')}. Give more "
        "samples, or a solver that prunes by gradients, such as chita."
    )


def _held_outside(network: nn.Module, blocks: Mapping[str, NetworkBlock]) -> dict[str, str]:
    """Return the weights of which their block does not show all uses, each with the reason.

    Layers outside it have other inputs; embeddings, inside or not, do not multiply any.
    """
    found = {}
    for block in blocks.values():
        for tensor in block.tensors:
            for name in holders(network, tensor):
                module = network.get_submodule(name)
                around = block.name in ("", name) or name.startswith(f"{block.name}.")
                if not sees(module, "weight"):
                    if not isinstance(module, (nn.ParameterList, nn.ParameterDict)):
                        kind = type(module).__name__
                        found[tensor] = f"is also held by {name} ({kind}), whose use is not seen"
                elif not around:
                    found[tensor] = f"is also the weight of {name}, which runs elsewhere"
    return found


def _left_dense(seen: Seen, most: int) -> str | None:
    """Why a layer is not pruned, None where it is; `most` is the most that one of its block saw."""
    if seen.fault is not None:
        return seen.fault
    if not seen.count:
        return "saw no input"
    if not bool(seen.gram.any()):
        return "saw only zeros"
    width = seen.gram.shape[1]
    if seen.count < width <= most:
        return f"saw {seen.count} inputs, fewer than the {width} entries of each"
    return None
