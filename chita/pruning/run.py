"""A run: what was asked for, the network that is worked on, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, final

import torch
from torch import nn

from chita import nested
from chita.budget_options import BudgetOptions
from chita.collect.cost import with_operations
from chita.collect.gradients import Collected
from chita.collect.sample_parts import OrderCheck
from chita.constraints import Budget, Searched
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.logger import Logger, check_logger
from chita.losses import LossLike, check_loss, make_loss
from chita.models.copying import copied
from chita.models.mode import (
    State,
    changed_since,
    evaluation_mode,
    restore,
    tensors_of,
    without_cache,
)
from chita.models.wrappers import canonical_names, uncompiled
from chita.options import plain, values_of
from chita.progress import Progress, Silent
from chita.pruning.calibration import Calibration, Sampling, StageSamples, loss_name
from chita.pruning.config import (
    Checkpoint,
    Fisher,
    Memory,
    Quadratic,
    RunOptions,
    Stages,
    Training,
    check_groups,
)
from chita.pruning.result import PruneResult, flops, layer_records, levels_of
from chita.pruning.state import CheckpointFile, RunState
from chita.pruning.tuning import is_tuned, settle
from chita.records import RunRecord, TrainingRecord, peak_rss_mb, versions
from chita.solvers import Solver
from chita.solvers.named import solver_name, solver_options


@final
@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """All that a run is asked for, beside network and data: the parameters of `chita.prune`.

    Other commands use a part of it. Raises `InputError` where a field is of no use by
    itself.
    """

    solver: Solver
    budget: Budget | None = None
    stages: Stages = Stages()
    fisher: Fisher = Fisher()
    quadratic: Quadratic = Quadratic()
    training: Training | None = None
    layerwise: bool | None = None
    memory: Memory = Memory()
    validation: int | None = None
    measure: Callable[[nn.Module], float] | None = None
    targets: str | Sequence[str] | None = None
    ignore: str | Sequence[str] = ()
    loss: LossLike = None
    checkpoint: Checkpoint | None = None
    inplace: bool = False
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    logger: Logger | None = None

    def __post_init__(self) -> None:
        check_logger(self.logger)
        check_groups(
            fisher=self.fisher,
            quadratic=self.quadratic,
            memory=self.memory,
            stages=self.stages,
            training=self.training,
        )
        checked = RunOptions(layerwise=self.layerwise, validation=self.validation, seed=self.seed)
        object.__setattr__(self, "validation", checked.validation)
        object.__setattr__(self, "seed", checked.seed)
        check_loss(self.loss)
        if not isinstance(self.inplace, bool):
            raise InputError(f"`inplace` is {self.inplace!r}; give True or False.")

    @property
    def sampling(self) -> Sampling:
        """Which samples make gradients, and how."""
        return Sampling(
            fisher=self.fisher, validation=self.validation, seed=self.seed, loss=self.loss
        )

    @property
    def settled(self) -> tuple[Quadratic, str]:
        """λ, s and τ, and the structure, plain where this solver leaves nothing to choose."""
        return settle(self.quadratic, self.fisher.structure, self.solver)

    @property
    def is_tuned(self) -> bool:
        """Whether some of these are chosen by validation samples.

        Raises `InputError` where a structure is asked for that the solver does not take.
        """
        return is_tuned(*self.settled) and bool(self.solver.curvatures)


@final
class FirstGradients:
    """The samples and gradients of a first stage, collected once for runs of the same network."""

    def __init__(self) -> None:
        self._found: tuple[StageSamples, Collected] | None = None

    def get(
        self, collect: Callable[[], tuple[StageSamples, Collected]]
    ) -> tuple[StageSamples, Collected]:
        """Return them; `collect` is called the first time."""
        if self._found is None:
            self._found = collect()
        return self._found


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that was checked and not begun, on a network and data.

    Fields: `command`, prune, refit or apply; `config`, what was asked for; `budget`, that to meet;
    `model`, as given; `network`, without wrappers; `layout`, the weights that compete; `data`, as
    samples where they are in memory; `layerwise`, whether layers are pruned one by one; `others`,
    settings of the command beside; `notes`, lines for the record on what is left out; `first`,
    gradients of the first stage, of trials that are compared on the validation samples; `order`,
    the check that the first dimension runs over samples; `opening`, the seconds that all checks
    took.
    """

    command: str
    config: PruneConfig
    budget: Budget
    model: nn.Module
    network: nn.Module
    layout: Layout
    data: Data | None = None
    layerwise: bool = False
    others: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    first: FirstGradients | None = None
    order: OrderCheck = field(default_factory=OrderCheck)
    opening: float = 0.0

    def worked_on(self) -> nn.Module:
        """Return the network to work on: a copy, unless it is pruned in place."""
        if self.config.inplace:
            return self.network
        return copied(self.network, written=self.layout.names)

    def calibration(self, network: nn.Module) -> Calibration:
        """Return the samples for the network to work on; its draws begin with the first stage."""
        solver = self.config.solver
        asks = self.config.is_tuned or (bool(solver.curvatures) and solver.asks_loss)
        return Calibration(
            self.config.sampling,
            self.data,
            network,
            self.layout,
            validated=(asks and not self.layerwise) or self.first is not None,
            order=self.order,
            memory=self.config.memory,
        )

    def checkpoint_file(
        self, network: nn.Module, *, wanted: bool = True, **others: Any
    ) -> CheckpointFile:
        """Return the file of finished parts, one that keeps nothing if none is asked for or wanted.

        `others` decide on the result beside the settings.
        """
        if self.config.checkpoint is None or not wanted:
            return CheckpointFile(None, settings={}, network=network)
        asked = {name: value for name, value in self.settings.items() if name != "max_memory"}
        own = {
            "solver": solver_name(self.config.solver),
            "options": solver_options(self.config.solver),
            "budget": repr(self.budget),
        }
        return CheckpointFile(
            self.config.checkpoint, settings={**asked, **own, **others}, network=network
        )

    @contextmanager
    def at_work(self, network: nn.Module) -> Iterator[None]:
        """Run a block on the network as it is worked on: in eval mode, as it was written."""
        with evaluation_mode(network), uncompiled(network), without_cache(network):
            yield

    @contextmanager
    def restored_on_error(self) -> Iterator[State]:
        """Give a network that is pruned in place its tensors back when a block fails.

        The block gets copies of those that a run may change, by path; none where it is copied.
        """
        before: State = {}
        if self.config.inplace:
            names = None if self.config.training else {*self.layout.names}
            before = {
                name: tensor.detach().clone()
                for name, tensor in tensors_of(self.network).items()
                if names is None or name in names or not isinstance(tensor, nn.Parameter)
            }
        try:
            yield before
        except BaseException:
            restore(self.network, changed_since(self.network, before))
            raise

    @property
    def settings(self) -> dict[str, Any]:
        """All options but those of the solver, by their names on the command line."""
        config = self.config
        groups = (config.stages, config.sampling, config.fisher, config.quadratic, config.memory)
        asked: dict[str, Any] = {**self.others, **self._budget}
        for group in groups:
            asked |= values_of(group)
        asked["layerwise"] = self.layerwise
        asked["loss"] = loss_name(config.loss)
        asked["training"] = values_of(config.training) if config.training else None
        return {name: plain(value) for name, value in asked.items()}

    @property
    def _budget(self) -> dict[str, Any]:
        """The budget in words, and itself where words do not say all of it."""
        if self.command != "prune":
            return {}
        words = self.budget.words
        own = {} if words else {"budget": repr(self.budget)}
        return {**values_of(BudgetOptions()), **words, **own}

    def result(
        self,
        network: nn.Module,
        state: RunState,
        *,
        budget: Budget | None = None,
        seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> PruneResult:
        """Return the result of what was done.

        Args:
            network: the pruned one.
            state: with all stages done.
            budget: with levels, where they were searched for.
            seconds: of phases beside those of stages and epochs.
        """
        levels = budget.levels if isinstance(budget, Searched) else None
        last, sampling = state.records[-1], self.config.sampling
        names = canonical_names(network)
        layout = replace(self.layout, names=tuple(map(names.__getitem__, self.layout.names)))
        beside = {phase: took for phase, took in seconds.items() if took}
        trained, spent = None, {**beside, **state.seconds}
        if self.config.training is not None:
            trained = TrainingRecord(epochs=tuple(state.epochs), stopped=state.stopped)
            spent["train"] = sum(epoch.seconds for epoch in state.epochs)
        record = RunRecord(
            command=self.command,
            solver=solver_name(self.config.solver),
            options=solver_options(self.config.solver),
            settings=self.settings,
            sparsity=last.sparsity,
            nnz=last.nnz,
            prunable=self.layout.size,
            ridge=last.ridge,
            first_order=last.first_order,
            step_size=last.step_size,
            weighting=state.weighting,
            samples=state.samples,
            samples_per_gradient=sampling.fisher.samples_per_gradient if state.samples else 0,
            validation=state.validation,
            seed=sampling.seed,
            loss=state.loss,
            objective=last.objective,
            lower_bound=state.lower_bound,
            status=last.status,
            iterations=last.iterations,
            stages=tuple(state.records),
            training=trained,
            batch_norm=state.batch_norm,
            layers=layer_records(
                layout,
                state.mask,
                {names[path]: backend for path, backend in state.backends.items()},
                {names[path]: solved for path, solved in state.solved.items()},
            ),
            levels=levels_of(levels or {}),
            flops=flops(self.layout, state.mask),
            dense_flops=flops(self.layout, torch.ones_like(state.mask)),
            seconds=spent,
            data_hash=state.digest,
            model=type(network).__name__,
            notes=self.notes,
            peak_rss_mb=peak_rss_mb(),
            versions=versions(),
        )
        return PruneResult(model=network, masks=layout.unflatten(state.mask), record=record)


def layout_for(
    budget: Budget,
    layout: Layout,
    model: nn.Module,
    data: Data | None,
    loss: LossLike,
    *,
    recorded: bool = False,
) -> Layout:
    """Return the layout with what its weights cost for one sample, where the budget needs it.

    `recorded` asks for it where only the record would hold it: of data in memory, since batches
    that come one after another are not begun for that.

    Raises `InputError` as `chita.collect.cost.with_operations` does, where the budget needs it.
    """
    wanted = budget.counts_operations or (recorded and isinstance(data, Indexed))
    if data is None or not wanted:
        return layout
    batch = next(iter(batches_of(data, 1)))
    device = model.get_parameter(layout.names[0]).device
    sample = nested.map_tensors(lambda t: t.to(device), next(Examples(batch).batches(1)))
    needed = budget.counts_operations
    return with_operations(layout, model, make_loss(loss, batch), sample, needed=needed)
