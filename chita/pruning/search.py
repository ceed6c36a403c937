"""What pruning each tensor by itself costs in loss: the table from which levels are chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from chita.pruning.auto import Chooser
from chita.pruning.config import AUTO
from chita.pruning.judge import Judge
from chita.pruning.pose import Pose
from chita.pruning.posed import Posed
from chita.pruning.samples import Drawn, Sampling, Source
from chita.records import finite
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

LEVELS = tuple(round(1 - 2 ** (-half / 2), 3) for half in range(14))
"""The shares removed that are tried: none, and densities that fall by the root of two to 1.1 %."""

_POSED = 0.912  # a ridge is chosen at the level nearest to this one


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What pruning each tensor by itself costs.

    Fields: `levels`, of every tensor, in the order of the layout and of rising sparsity; `dense`,
    the loss of the network as it is; `loss`, its name; `held_out`, samples that told these;
    `drawn`, those of the rows, and `rows`, n, None and 0 where the method needs none; `seconds`, by
    phase.
    """

    levels: Levels
    dense: float
    loss: str
    held_out: int
    drawn: Drawn | None
    rows: int
    seconds: dict[str, float]


def searched(
    budget: Budget,
    network: nn.Module,
    layout: Layout,
    data: Data | None,
    *,
    solver: Solver,
    sampling: Sampling,
    pose: Pose,
    bn_recalibrate: bool,
    progress: Progress,
) -> Budget:
    """Return a budget with its levels of sparsity measured at `LEVELS`, where it asks for that.

    Raises as `measured` does.
    """
    if not isinstance(budget, Searched) or budget.levels is not None:
        return budget
    found = measured(
        network,
        layout,
        data,
        sparsities=LEVELS,
        solver=solver,
        sampling=sampling,
        pose=pose,
        bn_recalibrate=bn_recalibrate,
        progress=Placed(progress, "search: "),
    )
    return replace(budget, levels=found.levels)


def measured(
    network: nn.Module,
    layout: Layout,
    data: Data | None,
    *,
    sparsities: Sequence[float],
    solver: Solver,
    sampling: Sampling,
    pose: Pose,
    bn_recalibrate: bool,
    progress: Progress,
) -> Measured:
    """Return by how much the loss grows with every tensor by itself pruned to some sparsities.

    A tensor is pruned by the run's method, from the rows of its first stage, without the
    first-order term (which trains); where λ is to be chosen, that is done once for each tensor. At
    least one weight is kept. A loss is the mean over the samples held out, batch norms as if
    estimated anew where that lowers it, less that of the network as it is, so at sparsity 0 it is
    0. A level that cannot be solved, or at which the loss is not finite, is left out. The network
    is left as it was.

    Args:
        network: in eval mode.
        layout: the tensors.
        data: calibration samples.
        sparsities: two shares removed or more, rising, the first of them 0.
        solver: the method.
        sampling: which samples make rows, and which are held out.
        pose: λ, τ and blocks, or that they are chosen; its first-order scale has no part.
        bn_recalibrate: whether batch norms may be as if estimated anew.
        progress: told of rows and of levels.

    Raises:
        InputError: there are no data, or no samples to hold out, or the network fails on them.
        NumericalError: the loss of the network as it is, or its gradients, are not finite.
    """
    search = _Search(network, layout, data, solver, sampling, pose, normed=bn_recalibrate)
    return search.run(sparsities, progress)


@final
class _Search:
    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        data: Data | None,
        solver: Solver,
        sampling: Sampling,
        pose: Pose,
        *,
        normed: bool,
    ) -> None:
        self._network, self._layout, self._solver = network, layout, solver
        self._sampling, self._pose = sampling, pose.at(first_order=0.0).settled(solver)
        self._device = network.get_parameter(layout.names[0]).device
        self._source = Source(sampling, data, judged=True)
        held = self._source.judges(network, self._device)
        if held is None:
            raise InputError(
                "What pruning a tensor costs is told by the loss on validation samples, and "
                "`validation` is 0. Allow some, or give levels of sparsity that are known."
            )
        self._loss = sampling.loss_for(held.parts[0]).name
        normed = normed and bool(batch_norms(network))
        self._judge = Judge(network, layout, held, sampling, normed=normed)

    def run(self, sparsities: Sequence[float], progress: Progress) -> Measured:
        """Measure every tensor at rising sparsities, the first of them 0."""
        began = time.perf_counter()
        w_bar = read_weights(self._network, self._layout)
        drawn, collected = None, None
        if self._solver.curvatures:
            drawn, collected = self._collected(progress)
        measuring = time.perf_counter()
        self._judge.check()
        dense = self._judge(w_bar)
        if not math.isfinite(dense):
            raise NumericalError(
                f"The loss of the network as it is, on the {len(self._judge)} samples held out, is "
                f"{dense}. Give sound weights and data, or another loss."
            )
        found: dict[str, tuple[tuple[float, float], ...]] = {}
        others = range(1, len(sparsities))
        posed = min(others, key=lambda at: abs(sparsities[at] - _POSED))
        order = (posed, *(at for at in others if at != posed))
        steps = len(self._layout.names) * len(order)
        with track(progress, "measure", steps, "levels") as told:
            for name, segment in self._layout:
                own = self._layout.alone(name), segment
                tensor = _Tensor(w_bar, *own, collected, self._solver, self._pose, self._judge)
                losses = {0: 0.0}
                for at in order:
                    loss = tensor.loss(sparsities[at])
                    if loss is not None:
                        losses[at] = loss - dense
                    told.advance(1)
                found[name] = tuple((sparsities[at], losses[at]) for at in sorted(losses))
        write_weights(self._network, self._layout, w_bar)
        return Measured(
            levels=found,
            dense=dense,
            loss=self._loss,
            held_out=len(self._judge),
            drawn=drawn,
            rows=0 if collected is None else collected.rows.n,
            seconds={
                "collect": measuring - began,
                "measure": time.perf_counter() - measuring,
            },
        )

    def _collected(self, progress: Progress) -> tuple[Drawn, Collected]:
        given = self._source.next()
        return self._source.collected(given, self._network, self._layout, self._device, progress)


@final
class _Tensor:
    """One tensor, all others as they are."""

    def __init__(
        self,
        w_bar: Tensor,
        layout: Layout,
        segment: slice,
        collected: Collected | None,
        solver: Solver,
        pose: Pose,
        judge: Judge,
    ) -> None:
        self._w_bar, self._segment, self._solver, self._pose = w_bar, segment, solver, pose
        self._own, self._judge = w_bar[segment], judge
        self._layout = layout
        self._rows = None if collected is None else collected.rows.part(segment)
        self._divisors = w_bar.new_zeros(0) if collected is None else collected.divisors

    def loss(self, sparsity: float) -> float | None:
        """The loss with that share of the tensor removed, None where no system can be solved."""
        size = len(self._own)
        constraint = KeepK(size=size, k=max(1, share_kept(sparsity, size)))
        chooser = Chooser(self._pose, self._judged)
        try:
            posed = Posed(self._own, self._rows, self._divisors, self._layout, constraint)
            problem, scale = chooser.pose(posed, 0.0, self._solver)
            problem, solution = chooser.solved(self._solver.brief, problem, constraint)
        except NumericalError:
            return None
        if self._pose.ridge == AUTO and self._rows is not None:
            self._pose = self._pose.at(ridge=problem.ridge, structure=chooser.blocks)
        return finite(chooser.follow(problem, scale, solution).loss)

    def _judged(self, own: Tensor) -> float:
        weights = self._w_bar.clone()
        weights[self._segment] = own
        return self._judge(weights)
