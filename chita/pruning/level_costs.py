"""The loss that pruning each tensor by itself costs: the table from which levels are chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from torch import Tensor, nn

from chita.collect.gradients import Collected
from chita.constraints import Budget, KeepK, Searched
from chita.constraints.allocation import Levels
from chita.constraints.sparsity import share_kept
from chita.data.batches import Data
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.models.prunable import read_weights, write_weights
from chita.progress import Placed, Progress, track
from chita.pruning.calibration import Calibration, StageSamples
from chita.pruning.config import AUTO, Quadratic
from chita.pruning.run import PruneConfig, Run
from chita.pruning.stage_problem import LossAt, StageProblem
from chita.pruning.tuning import Tuner, settle
from chita.records import finite
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

LEVELS = tuple(round(1 - 2 ** (-half / 2), 3) for half in range(14))
"""The shares removed that are tried: none, and densities that fall by the root of two to 1.1 %."""

_TUNED_AT = 0.912  # a ridge is chosen at the level nearest to this one


@final
@dataclass(frozen=True, kw_only=True)
class LevelCosts:
    """The loss that pruning each tensor by itself costs.

    Fields: `levels`, of every tensor, in the order of the layout and of rising sparsity; `dense`,
    the loss of the network as it is; `loss`, its name; `validation`, samples that it was measured
    on; `samples`, those of the gradients, and `count` n of these, None and 0 where the solver needs
    none; `seconds`, by phase.
    """

    levels: Levels
    dense: float
    loss: str
    validation: int
    samples: StageSamples | None
    count: int
    seconds: dict[str, float]


def with_levels(run: Run, network: nn.Module) -> tuple[Budget, float]:
    """Return the budget of a run with its levels measured, where it asks for that, and the seconds.

    Raises as `LevelSearch` does.
    """
    began, budget, config = time.perf_counter(), run.budget, run.config
    if isinstance(budget, Searched) and budget.levels is None:
        search = LevelSearch(network, run.layout, run.data, config)
        found = search.run(LEVELS, Placed(config.progress, "search: "))
        budget = replace(budget, levels=found.levels)
        return budget, time.perf_counter() - began
    return budget, 0.0


@final
class LevelSearch:
    """Measures by how much the loss grows with every tensor by itself pruned to some sparsities.

    A tensor is pruned by the run's solver, from the gradients of its first stage, without the
    first-order term (which trains); where λ is to be chosen, that is done once for each tensor. At
    least one weight is kept. A loss is the mean over validation samples, batch norms as if
    estimated again where that lowers it, less that of the network as it is, so at sparsity 0 it is
    0. A level that cannot be solved, or at which the loss is not finite, is left out. The network
    is left as it was.

    Args:
        network: in eval mode.
        layout: the tensors.
        data: calibration samples.
        config: the solver, the samples, λ and τ, and whether batch norms may be as if estimated
            again (`bn_recalibrate`); its first-order scale and its budget have no part.

    Raises:
        InputError: there are no data, or no validation samples, or the network fails on them.
        NumericalError: the loss of the network as it is, or its gradients, are not finite.
    """

    def __init__(
        self, network: nn.Module, layout: Layout, data: Data | None, config: PruneConfig
    ) -> None:
        solver, sampling = config.solver, config.sampling
        self._network, self._layout, self._solver = network, layout, solver
        plain = replace(config.quadratic, first_order=0.0)
        self._quadratic, self._structure = settle(plain, sampling.fisher.structure, solver)
        self._calibration = Calibration(sampling, data, network, layout, validated=True)
        renews = config.stages.bn_recalibrate and bool(batch_norms(network))
        loss = self._calibration.validation_loss(renewable=renews)
        if loss is None:
            raise InputError(
                "What pruning a tensor costs is the loss on validation samples, and "
                "`validation` is 0. Allow some, or give levels of sparsity that are known."
            )
        self._loss = loss

    def run(self, sparsities: Sequence[float], progress: Progress) -> LevelCosts:
        """Measure every tensor at two sparsities or more, rising, the first of them 0."""
        began = time.perf_counter()
        w_bar = read_weights(self._network, self._layout)
        samples, collected = None, None
        if self._solver.curvatures:
            samples, collected = self._calibration.collect(self._calibration.draw(), 0, progress)
        measuring = time.perf_counter()
        self._loss.check()
        dense = self._loss(w_bar)
        if not math.isfinite(dense):
            raise NumericalError(
                f"The loss of the network as it is, on {len(self._loss)} validation samples, is "
                f"{dense}. Give sound weights and data, or another loss."
            )
        found: dict[str, tuple[tuple[float, float], ...]] = {}
        others = range(1, len(sparsities))
        tuned = min(others, key=lambda at: abs(sparsities[at] - _TUNED_AT))
        order = (tuned, *(at for at in others if at != tuned))
        steps = len(self._layout.names) * len(order)
        with track(progress, "measure", steps, "levels") as shown:
            for name, segment in self._layout:
                tensor = self._alone(name, segment, w_bar, collected)
                losses = {0: 0.0}
                for at in order:
                    loss = tensor.pruned_loss(sparsities[at])
                    if loss is not None:
                        losses[at] = loss - dense
                    shown.advance(1)
                found[name] = tuple((sparsities[at], losses[at]) for at in sorted(losses))
        write_weights(self._network, self._layout, w_bar)
        return LevelCosts(
            levels=found,
            dense=dense,
            loss=self._loss.name,
            validation=len(self._loss),
            samples=samples,
            count=0 if collected is None else collected.rows.n,
            seconds={
                "collect": measuring - began,
                "measure": time.perf_counter() - measuring,
            },
        )

    def _alone(
        self, name: str, segment: slice, w_bar: Tensor, collected: Collected | None
    ) -> _Tensor:
        """Return a tensor by itself, with its columns of the gradients."""
        return _Tensor(
            own=w_bar[segment],
            layout=self._layout.alone(name),
            collected=collected and replace(collected, rows=collected.rows.part(segment)),
            solver=self._solver,
            quadratic=self._quadratic,
            structure=self._structure,
            loss=partial(self._loss_at, w_bar, segment),
        )

    def _loss_at(self, w_bar: Tensor, segment: slice, own: Tensor) -> float:
        """Return the loss with other weights in one tensor."""
        weights = w_bar.clone()
        weights[segment] = own
        return self._loss(weights)


@final
@dataclass(kw_only=True)
class _Tensor:
    """One tensor to prune, with all others as they are; λ and structure are chosen once."""

    own: Tensor
    layout: Layout
    collected: Collected | None
    solver: Solver
    quadratic: Quadratic
    structure: str
    loss: LossAt

    def pruned_loss(self, sparsity: float) -> float | None:
        """Return the loss with that share removed, None where no system can be solved."""
        size = len(self.own)
        constraint = KeepK(size=size, k=max(1, share_kept(sparsity, size)))
        tuner = Tuner(self.quadratic, self.structure, self.loss)
        try:
            stage = StageProblem.of(self.own, self.collected, self.layout, constraint)
            problem, scale = tuner.tune(stage, 0.0, self.solver)
            problem, solution = tuner.solve(self.solver.brief, problem, constraint)
        except NumericalError:
            return None
        if self.quadratic.ridge == AUTO and self.collected is not None:
            self.quadratic = replace(self.quadratic, ridge=problem.ridge)
            self.structure = tuner.structure
        return finite(tuner.take_step(problem, scale, solution).loss)
