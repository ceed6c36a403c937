"""What pruning each tensor by itself costs in loss: the table from which levels are chosen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from chita.collect.gradients import Collected, collect_gradients
from chita.constraints import Budget, KeepK
from chita.constraints.sparsity import share_kept
from chita.data.batches import Data
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.models.prunable import read_weights, write_weights
from chita.progress import Placed, Progress, track
from chita.pruning.allocation import Searched
from chita.pruning.auto import Chooser
from chita.pruning.judge import Judge
from chita.pruning.pose import AUTO, Pose
from chita.pruning.posed import Posed
from chita.pruning.samples import Sampling, Source
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

LEVELS = tuple(round(1 - 2 ** (-half / 2), 3) for half in range(14))
"""The shares removed that are tried: none, and densities that fall by the root of two to 1.1 %."""

_POSED = 7  # the level, of 91 %, at which a ridge is chosen


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
    """Return a budget with its levels of sparsity measured, where it asks for that.

    Every tensor by itself is pruned to each of `LEVELS` by the run's method, from the rows of its
    first stage, without the first-order term (which trains); where λ is to be chosen, that is done
    once for each tensor. A loss is the mean over the samples held out, batch norms as if estimated
    anew, less that of the network as it is. A level that cannot be solved is left out. The network
    is left as it was.

    Raises `InputError` when there are no data, or no samples to hold out.
    """
    if not isinstance(budget, Searched) or budget.levels is not None:
        return budget
    search = _Search(network, layout, data, solver, sampling, pose, normed=bn_recalibrate)
    return replace(budget, levels=search.run(progress))


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
        self._sampling, self._pose = sampling, replace(pose, first_order=0.0).settled(solver)
        self._device = network.get_parameter(layout.names[0]).device
        self._source = Source(sampling, data, judged=True)
        held = self._source.judges(network, self._device)
        if held is None:
            raise InputError(
                "Levels are searched by the loss on samples held out, and held_out is 0. Hold some "
                "out, or give the levels."
            )
        normed = normed and bool(batch_norms(network))
        self._judge = Judge(network, layout, held, sampling, normed=normed)

    def run(self, progress: Progress) -> dict[str, tuple[tuple[float, float], ...]]:
        """Return the levels of every tensor."""
        w_bar = read_weights(self._network, self._layout)
        collected = self._collected(progress) if self._solver.curvatures else None
        dense = self._judge(w_bar)
        found: dict[str, tuple[tuple[float, float], ...]] = {}
        steps = len(self._layout.names) * len(LEVELS)
        with track(progress, "search", steps, "levels") as told:
            for name, segment in self._layout:
                own = self._layout.alone(name), segment
                tensor = _Tensor(w_bar, *own, collected, self._solver, self._pose, self._judge)
                losses = {0: 0.0}
                for at in (_POSED, *(i for i in range(1, len(LEVELS)) if i != _POSED)):
                    loss = tensor.loss(LEVELS[at])
                    if loss is not None:
                        losses[at] = loss - dense
                    told.advance(1)
                found[name] = tuple((LEVELS[at], losses[at]) for at in sorted(losses))
                told.advance(1)
        write_weights(self._network, self._layout, w_bar)
        return found

    def _collected(self, progress: Progress) -> Collected:
        drawn = self._source.drawn(self._source.next(), self._network, self._device)
        return collect_gradients(
            self._network,
            self._layout,
            drawn.examples,
            row_size=self._sampling.row_size,
            loss=drawn.loss,
            storage=self._sampling.storage,
            improved=drawn.improved,
            progress=Placed(progress, "search: "),
        )


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
            problem, solution = chooser.solved(self._solver.brief, problem, constraint, bound=False)
        except NumericalError:
            return None
        if self._pose.ridge == AUTO and self._rows is not None:
            self._pose = replace(self._pose, ridge=problem.ridge, fisher_blocks=chooser.blocks)
        loss = chooser.follow(problem, scale, solution).loss
        return loss if loss is not None and math.isfinite(loss) else None

    def _judged(self, own: Tensor) -> float:
        weights = self._w_bar.clone()
        weights[self._segment] = own
        return self._judge(weights)
