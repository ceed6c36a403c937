"""The plan of a pruning run: what it would do and cost, without running the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from chita.collect.backends import chunk_rows, worth_factoring
from chita.collect.cost import Cost, sample_cost
from chita.collect.gradients import rows_type
from chita.collect.inputs import all_seen
from chita.constraints import Budget, Constraint, MaxLoss, UnderFlops, as_budget
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples, as_examples
from chita.layout import Layout
from chita.losses import Loss, LossLike, OutputLoss
from chita.machine import LOADED_LATER, available_memory, resident_memory
from chita.models.mode import own_modes
from chita.models.prunable import prunable_layout, read_weights
from chita.models.targets import Decision, decide
from chita.models.wrappers import unwrapped
from chita.pruning.calibration import Sampling, check_samples
from chita.pruning.config import Fisher, Memory, Quadratic
from chita.pruning.layer_matrices import check_layers, gram_bytes, layers_cost, layers_of
from chita.pruning.layer_stage import prunes_layers
from chita.pruning.opening import check_config
from chita.pruning.predicted import (
    collect_seconds,
    evaluate_seconds,
    solve_seconds,
    train_seconds,
)
from chita.pruning.run import PruneConfig, layout_for
from chita.pruning.schedule import Stages, as_stages
from chita.records import peak_rss_mb
from chita.reports.notebook import as_html
from chita.solvers.named import SolverLike, make_solver
from chita.training.recipe import Training

_FUNC_LOADED = 70e6  # those of torch.func
_FUNC_SECONDS = 1.0  # the first call of it


@final
@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """One parameter of the network and its fate.

    Fields: `name`, `kind` (the class of its module), `shape`, `weights`; `pruned`, by which
    `rule`; `bytes`, of its part of all gradients, 0 where it is not pruned.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    pruned: bool
    rule: str
    bytes: int


@final
@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of several limits, and what the largest weights that fit would use of it.

    Fields: `of`, weights or multiply-adds of what is pruned; `used`, `allowed`, `whole`, that of
    all; `binds`, whether another weight would break it.
    """

    of: str
    used: int
    allowed: int
    whole: int
    binds: bool


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run.

    Fields: `tensors`, every parameter; `prunable`, weights p; `kept`, k or the most that may be,
    None without a budget; `limits`, where there are several; `samples`, gradients n of a stage;
    `gradient_bytes`, of all of them;
    `peak_bytes`, predicted peak memory of the process; `free_bytes`, available now, None where
    unknown; `collect_seconds`, None where no sample shows what the network costs, and
    `solve_seconds`, both predicted from a measured speed of this machine; `train_seconds`, of all
    epochs, 0 without training and None where samples cannot be counted; `evaluate_seconds`, of
    measuring the network, 0 where nothing is measured and None as before. With `layerwise`,
    layers are pruned one by one: `samples` are then what they see, and bytes those of Gram
    matrices. `by_layers` is whether that could be done.

    >>> found = plan(nn.Linear(3, 2), solver="magnitude")
    >>> [(tensor.name, tensor.pruned) for tensor in found.tensors]
    [('weight', True), ('bias', False)]
    """

    tensors: tuple[PlannedTensor, ...]
    prunable: int
    kept: int | None
    limits: tuple[Limit, ...]
    samples: int
    gradient_bytes: int
    peak_bytes: int
    free_bytes: int | None
    collect_seconds: float | None
    solve_seconds: float
    train_seconds: float | None = 0.0
    evaluate_seconds: float | None = 0.0
    layerwise: bool = False
    by_layers: bool = False

    def __repr__(self) -> str:
        """One line: what competes, and what it takes."""
        return f"Plan({self._summary})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [
            (t.name, "x".join(map(str, t.shape)), f"{t.weights:,}", *_fate(t)) for t in self.tensors
        ]
        head = ("tensor", "shape", "weights", "pruned", "by the rule")
        return as_html("What would be pruned", [self._summary], head, rows)

    @property
    def _summary(self) -> str:
        summary = (
            f"{sum(tensor.pruned for tensor in self.tensors)} of {len(self.tensors)} tensors, "
        )
        most = "at most " if self.limits else ""
        kept = "" if self.kept is None else f"{most}{self.kept:,} of "
        summary += f"{kept}{self.prunable:,} weights{' kept' if kept else ''}; {self.samples:,} "
        summary += (
            f"{'samples' if self.layerwise else 'gradients'}, {self.gradient_bytes / 1e6:,.1f} MB; "
        )
        seconds = (
            *(self.collect_seconds, self.solve_seconds),
            *(self.train_seconds, self.evaluate_seconds),
        )
        known = [part for part in seconds if part is not None]
        least = "" if len(known) == len(seconds) else "more than "
        return f"{summary}peak {self.peak_bytes / 1e6:,.0f} MB, {least}{sum(known):.1f} s"


def _fate(tensor: PlannedTensor) -> tuple[str, str]:
    return "yes" if tensor.pruned else "no", tensor.rule


def plan(
    model: nn.Module,
    data: Data | None = None,
    *,
    sparsity: float | None = None,
    budget: Budget | str | None = None,
    solver: SolverLike = "chita",
    stages: int | Stages = 1,
    fisher: Fisher = Fisher(),
    quadratic: Quadratic = Quadratic(),
    training: Training | None = None,
    layerwise: bool | None = None,
    memory: Memory = Memory(),
    validation: int | None = None,
    evaluation: Data | None = None,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    loss: LossLike = None,
) -> Plan:
    """Return every tensor with the rule that matched it, and what pruning would cost.

    The network is not run on data: only the shapes of one sample pass through it, on the meta
    device, which computes nothing. Memory and time are estimates from sizes; how near they come
    is measured by `benchmarks/plan.py`.

    Args:
        model: the network.
        data: one sample of it gives the time of the gradients.
        sparsity: as in `prune`; without it and `budget`, nothing is said of what is kept.
        budget: as in `prune`; what searches take is not foreseen, and `Flops` needs
            data.
        solver: as in `prune`.
        stages: as in `prune`; times are those of all.
        fisher: as in `prune`; with its `history`, gradients are those that the last stage holds.
        quadratic: as in `prune`; checked, and without effect on what is predicted.
        training: as in `prune`; gradients and solves are those of all events.
        layerwise: as in `prune`. Bytes are then those of Gram matrices.
        memory: as `quadratic`.
        validation: as `quadratic`.
        evaluation: as in `prune`.
        targets: as in `prune`.
        ignore: as in `prune`.
        loss: as in `prune`.

    Raises:
        InputError: as in `prune`, for arguments and rules; samples and values are not looked at.

    >>> plan(nn.Linear(3, 2), sparsity=0.5, solver="magnitude").kept
    3
    """
    config = PruneConfig(
        budget=None if budget is None and sparsity is None else as_budget(budget, sparsity),
        solver=make_solver(solver),
        stages=as_stages(stages),
        fisher=fisher,
        quadratic=quadratic,
        training=training,
        layerwise=layerwise,
        memory=memory,
        validation=validation,
        targets=targets,
        ignore=ignore,
        loss=loss,
    )
    return plan_of(model, data, config, evaluation)


@own_modes()
def plan_of(
    model: nn.Module,
    data: Data | None,
    config: PruneConfig,
    evaluation: Data | None = None,
    measured: int | None = None,
) -> Plan:
    """Return the plan of a run, which may have no budget; see `plan`.

    The network is measured on so many samples of the evaluation data at most, None for all.
    """
    check_config(config)
    network, solver, sampling = unwrapped(model), config.solver, config.sampling
    layered = prunes_layers(solver, config.layerwise)
    layout = prunable_layout(network, config.targets, config.ignore)
    if data is not None and solver.curvatures:
        check_samples(sampling, as_examples(data) or data)
    layout, kept, limits = _budgeted(config, layout, network, data, layered=layered)
    collected = sampling.count if solver.curvatures and not layered else 0
    held = collected * (1 + min(config.fisher.history, config.stages.number - 1))
    wide = rows_type(network, layout)
    each = held * (sampling.storage or wide).itemsize  # bytes per weight
    whole = evaluation if data is None else data
    used = _used(evaluation, measured)
    needed = collected or layered or config.training or used != 0
    cost = _cost(network, whole, sampling) if needed else None
    ruled = data is not None and isinstance(_loss(data, sampling), OutputLoss)
    factored = _factored(cost, sampling) if ruled else frozenset()
    own = None if layered else (factored, each, held * wide.itemsize)
    decisions = decide(network, config.targets, config.ignore, frozen=False)
    tensors = tuple(_planned(decision, own) for decision in decisions)
    events = 1 if config.training is None else config.training.events
    if layered:
        spent = layers_cost(network, layout, solver, cost, sampling.count, events)
    else:
        count, stored = events * config.stages.number, sum(tensor.bytes for tensor in tensors)
        first = 0 if ruled or not collected else _FUNC_SECONDS
        collect = collect_seconds(sampling, cost, collected)
        solve = solve_seconds(solver, held, layout.size, kept or layout.size)
        spent = {
            "samples": held,
            "gradient_bytes": stored,
            "peak_bytes": _peak(network, sampling, cost, held, layout, ruled, stored),
            "collect_seconds": None if collect is None else first + count * collect,
            "solve_seconds": count * solve,
        }
    return Plan(
        tensors=tensors,
        prunable=layout.size,
        kept=kept,
        limits=limits,
        free_bytes=available_memory(),
        train_seconds=train_seconds(config.training, data, cost),
        evaluate_seconds=evaluate_seconds(used, config.training, cost),
        layerwise=layered,
        by_layers=all_seen(network, layout),
        **spent,
    )


def _budgeted(
    config: PruneConfig, layout: Layout, network: nn.Module, data: Data | None, *, layered: bool
) -> tuple[Layout, int | None, tuple[Limit, ...]]:
    """The layout with what a budget needs, what the budget keeps, and its limits."""
    budget = config.budget
    if budget is None:
        return layout, None, ()
    layout = layout_for(budget, layout, network, data, config.loss)
    kept = None if isinstance(budget, MaxLoss) else budget.kept(layout)
    if layered:
        check_layers(budget, layers_of(network, layout))
        return layout, kept, ()
    return layout, kept, _limits(budget.bind(layout), network, layout)


def _planned(decision: Decision, held: tuple[frozenset[str], int, int] | None) -> PlannedTensor:
    """What happens to one parameter; without `held` its bytes are those of a Gram matrix."""
    size = gram_bytes(decision.shape) if held is None else _bytes(decision, *held)
    return PlannedTensor(
        name=decision.role.name,
        kind=decision.role.kind,
        shape=decision.shape,
        weights=math.prod(decision.shape),
        pruned=decision.pruned,
        rule=decision.rule,
        bytes=size if decision.pruned else 0,
    )


def _limits(constraint: Constraint, model: nn.Module, layout: Layout) -> tuple[Limit, ...]:
    """What binds, by the magnitudes of the weights."""
    if not isinstance(constraint, UnderFlops):
        return ()
    mask = constraint.select(read_weights(model, layout))
    count, cost = int(mask.sum()), constraint.cost(mask)
    places = Limit(
        of="weights",
        used=count,
        allowed=min(constraint.k, layout.size),
        whole=layout.size,
        binds=count == constraint.k < layout.size,
    )
    whole = constraint.cost(torch.ones_like(mask))
    operations = Limit(
        of="multiply-adds of a sample",
        used=cost,
        allowed=min(constraint.limit, whole),
        whole=whole,
        binds=constraint.binds(mask),
    )
    return places, operations


def _used(evaluation: Data | None, measured: int | None) -> int | None:
    """The samples that the network is measured on, None where that is not known."""
    indexed = as_examples(evaluation) or evaluation
    if evaluation is None or not isinstance(indexed, Indexed):
        return 0 if evaluation is None else measured
    return len(indexed) if measured is None else min(measured, len(indexed))


def _cost(model: nn.Module, data: Data | None, sampling: Sampling) -> Cost | None:
    if data is None:
        return None
    batch = next(iter(batches_of(data, 1)))
    return sample_cost(model, sampling.loss_for(batch), next(Examples(batch).batches(1)))


def _loss(data: Data, sampling: Sampling) -> Loss:
    return sampling.loss_for(next(iter(batches_of(data, 1))))


def _factored(cost: Cost | None, sampling: Sampling) -> frozenset[str]:
    """The linear modules whose rows are kept as factors."""
    if cost is None or sampling.fisher.samples_per_gradient > 1:
        return frozenset()
    return frozenset(name for name, seen in cost.positions.items() if seen == 1)


def _bytes(decision: Decision, factored: frozenset[str], each: int, each_factor: int) -> int:
    """Memory of the rows of one tensor."""
    if not decision.pruned:
        return 0
    shape = decision.shape
    if decision.role.owner in factored and worth_factoring(shape):
        return sum(shape) * each_factor
    return math.prod(shape) * each


def _peak(
    model: nn.Module,
    sampling: Sampling,
    cost: Cost | None,
    n: int,
    layout: Layout,
    ruled: bool,
    stored: int,
) -> int:
    p = layout.size
    state = [*model.parameters(), *model.buffers()]
    copied = sum(t.numel() * t.element_size() for t in state if not is_lazy(t))
    now = resident_memory()
    if not n:
        return int(now + copied + 32 * p)
    at_once = max(layout.counts) if ruled else p  # weights differentiated by
    each = sampling.fisher.samples_per_gradient
    chunk = chunk_rows(at_once, each)
    activations = cost.activations if cost is not None else 0
    collecting = 3 * chunk * 4 * at_once + 2 * activations * chunk * each
    loaded = LOADED_LATER + (0 if ruled else _FUNC_LOADED)
    solving = 3 * min(8192, p) * 4 * n + 48 * min(n, p) ** 2 + 128 * p
    then = now + loaded + copied + stored + max(collecting, solving)
    return int(max(then, (peak_rss_mb() or 0.0) * 1e6))
