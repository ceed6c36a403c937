"""What all ways of pruning have in common: what is asked for, the network, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import nn

from chita.constraints import Budget
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.layout import Layout
from chita.logger import Logger
from chita.models.mode import evaluation_mode, without_cache
from chita.models.wrappers import uncompiled, unwrapped
from chita.progress import Progress, Silent
from chita.pruning.allocation import Searched
from chita.pruning.budget import layout_for
from chita.pruning.pose import Pose
from chita.pruning.result import PruneResult, make_record, settings_of
from chita.pruning.samples import Sampling
from chita.pruning.schedule import Stages
from chita.pruning.so_far import Staged
from chita.pruning.unfinished import Unfinished
from chita.pruning.working_copy import copied, restored_on_error
from chita.records import SolvedRecord, TrainingRecord
from chita.solvers import Solver

SHARED = ("solver", "sampling", "pose", "bn_recalibrate", "progress")
"""What a search of levels and a run of stages are told alike."""


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """What `chita.prune`, `refit` and `apply_masks` were asked for; see there.

    Fields: `choose`, a network to the weights that compete; `settings`, those of the command that
    no other field holds, for the record.
    """

    command: str
    choose: Callable[[nn.Module], Layout]
    budget: Budget
    solver: Solver
    sampling: Sampling
    pose: Pose
    settings: Mapping[str, Any]
    stages: Stages = field(default_factory=Stages)
    bn_recalibrate: bool = True
    bound: bool = False
    unfinished: str | Path | None = None
    resume: bool = False
    inplace: bool = False
    progress: Progress = field(default_factory=Silent)
    logger: Logger | None = None

    def opened(self, model: nn.Module, data: Data | None) -> tuple[nn.Module, Layout, Data | None]:
        """Return the network to work on, the weights that compete, and the data, checked once."""
        network = unwrapped(model)
        data = as_examples(data) or data
        layout = self.choose(network)
        loss = self.sampling.loss
        layout = layout_for(self.budget, layout, network, data, loss, recorded=True)
        return network if self.inplace else copied(network), layout, data

    def kept(self, network: nn.Module, **others: Any) -> Unfinished | None:
        """Return where finished parts are kept, None where that is not asked for.

        `others` decide on the result beside the settings.
        """
        if self.unfinished is None:
            return None
        asked = settings_of(self.solver, self.sampling, self.pose, {**self.asked, **others})
        return Unfinished(
            Path(self.unfinished), resume=self.resume, settings=asked, network=network
        )

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
    def asked(self) -> dict[str, Any]:
        """The settings, for the record."""
        return {
            **self.settings,
            **self.stages.asked(),
            "bn_recalibrate": self.bn_recalibrate,
        }

    def result(
        self,
        network: nn.Module,
        layout: Layout,
        staged: Staged,
        *,
        budget: Budget | None = None,
        searching: float = 0.0,
        solved: Mapping[str, SolvedRecord] | None = None,
        trained: TrainingRecord | None = None,
        **others: Any,
    ) -> PruneResult:
        """Return the result of what was done.

        `budget` is that after its levels were searched, in so many seconds of `searching`;
        `trained` tells of the epochs, `others` are settings as in `kept`; the rest is as in
        `make_record`.
        """
        record = make_record(
            network,
            command=self.command,
            solver=self.solver,
            staged=staged,
            layout=layout,
            levels=budget.levels if isinstance(budget, Searched) else None,
            searching=searching,
            sampling=self.sampling,
            pose=self.pose,
            settings={**self.asked, **others},
            solved=solved,
            training=trained,
        )
        return PruneResult(model=network, masks=layout.unflatten(staged.mask), record=record)
