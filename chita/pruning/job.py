"""What all ways of pruning have in common: what is asked for, the network, the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

from torch import nn

from chita.budget_options import BudgetOptions
from chita.constraints import Budget, Searched
from chita.data.batches import Data
from chita.errors import InputError
from chita.layout import Layout
from chita.logger import Logger
from chita.models.mode import evaluation_mode, without_cache
from chita.models.wrappers import uncompiled
from chita.options import flat, plain
from chita.progress import Progress, Silent
from chita.pruning.config import Checkpoint, Memory, Stages, Training
from chita.pruning.pose import Pose
from chita.pruning.result import PruneResult, make_record
from chita.pruning.samples import Sampling, loss_name
from chita.pruning.search import searched
from chita.pruning.so_far import Staged
from chita.pruning.unfinished import Unfinished
from chita.pruning.working_copy import copied, restored_on_error
from chita.records import SolvedRecord, TrainingRecord
from chita.solvers import Solver
from chita.solvers.named import solver_name, solver_options


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """What `chita.prune`, `refit` and `apply_masks` were asked for, checked; see there.

    Fields: `network`, as given but for wrappers; `layout`, the weights that compete; `data`, as
    samples where they are in memory; `layers`, whether pruning goes layer by layer; `others`,
    settings of the command that no other field holds.
    """

    command: str
    network: nn.Module
    layout: Layout
    data: Data | None
    budget: Budget
    solver: Solver
    sampling: Sampling = field(default_factory=Sampling)
    pose: Pose = field(default_factory=Pose)
    stages: Stages = field(default_factory=Stages)
    memory: Memory = field(default_factory=Memory)
    training: Training | None = None
    measure: Callable[[nn.Module], float] | None = None
    layers: bool = False
    checkpoint: Checkpoint | None = None
    inplace: bool = False
    progress: Progress = field(default_factory=Silent)
    logger: Logger | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.inplace, bool):
            raise InputError(f"`inplace` is {self.inplace!r}; give True or False.")

    def worked_on(self) -> nn.Module:
        """Return the network to work on: a copy, unless it is pruned in place."""
        return self.network if self.inplace else copied(self.network)

    def kept(self, network: nn.Module, **others: Any) -> Unfinished | None:
        """Return where finished parts are kept, None where that is not asked for.

        `others` decide on the result beside the settings.
        """
        if self.checkpoint is None:
            return None
        asked = {name: value for name, value in self.settings.items() if name != "max_memory"}
        own = {
            "solver": solver_name(self.solver),
            "options": solver_options(self.solver),
            "budget": repr(self.budget),
        }
        return Unfinished(self.checkpoint, settings={**asked, **own, **others}, network=network)

    def searched(self, network: nn.Module) -> tuple[Budget, float]:
        """Return the budget with its levels measured, where it asks for that, and the seconds."""
        began = time.perf_counter()
        budget = searched(
            self.budget,
            network,
            self.layout,
            self.data,
            solver=self.solver,
            sampling=self.sampling,
            pose=self.pose,
            bn_recalibrate=self.stages.bn_recalibrate,
            progress=self.progress,
        )
        return budget, time.perf_counter() - began

    @contextmanager
    def at_work(self, network: nn.Module, layout: Layout | None) -> Iterator[None]:
        """Run a block on the network in eval mode, which is as it was if the block fails.

        `layout` names the weights that change, None all parameters.
        """
        with (
            evaluation_mode(network),
            uncompiled(network),
            without_cache(network),
            restored_on_error(network, layout, inplace=self.inplace),
        ):
            yield

    @property
    def settings(self) -> dict[str, Any]:
        """All options but those of the solver, by their names on the command line."""
        groups = (self.stages, self.sampling, self.sampling.fisher, self.pose.quadratic)
        asked: dict[str, Any] = {**self.others, **self._budget}
        for group in (*groups, self.memory):
            asked |= flat(group)
        asked["layerwise"] = self.layers
        asked["loss"] = loss_name(self.sampling.loss)
        asked["training"] = flat(self.training) if self.training else None
        return {name: plain(value) for name, value in asked.items()}

    @property
    def _budget(self) -> dict[str, Any]:
        """The budget in words, and itself where words do not say all of it."""
        if self.command != "prune":
            return {}
        words = self.budget.words
        own = {} if words else {"budget": repr(self.budget)}
        return {**flat(BudgetOptions()), **words, **own}

    def result(
        self,
        network: nn.Module,
        staged: Staged,
        *,
        budget: Budget | None = None,
        searching: float = 0.0,
        solved: Mapping[str, SolvedRecord] | None = None,
        trained: TrainingRecord | None = None,
    ) -> PruneResult:
        """Return the result of what was done.

        `budget` is that after its levels were searched, in so many seconds of `searching`;
        `trained` tells of the epochs; the rest is as in `make_record`.
        """
        record = make_record(
            network,
            command=self.command,
            solver=self.solver,
            staged=staged,
            layout=self.layout,
            levels=budget.levels if isinstance(budget, Searched) else None,
            searching=searching,
            sampling=self.sampling,
            settings=self.settings,
            solved=solved,
            training=trained,
        )
        return PruneResult(model=network, masks=self.layout.unflatten(staged.mask), record=record)
