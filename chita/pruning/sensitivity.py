"""The sensitivity of a network to each of its tensors being pruned by itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import nn

from chita.constraints.sparsity import check_share
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.exports.run_folder import write_sensitivity
from chita.losses import LossLike
from chita.models.copying import copied
from chita.models.mode import evaluation_mode, own_modes, without_cache
from chita.models.prunable import prunable_layout
from chita.models.wrappers import canonical_names, uncompiled, unwrapped
from chita.options import plain, values_of
from chita.problem import GradientGram
from chita.progress.display import ProgressLike, progress_of
from chita.pruning.calibration import loss_name
from chita.pruning.config import (
    AUTO,
    SPARSITIES,
    Fisher,
    Quadratic,
    Stages,
    check_one_stage,
)
from chita.pruning.level_costs import LevelSearch
from chita.pruning.result import levels_of
from chita.pruning.run import PruneConfig
from chita.pruning.tuning import settle
from chita.records import LevelRecord, TensorRecord, peak_rss_mb, versions, with_total
from chita.reports.notebook import html_of_sensitivity
from chita.sensitivity_record import SensitivityRecord
from chita.solvers.named import SolverLike, make_solver, solver_name, solver_options


@final
@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The growth of the loss with each tensor pruned by itself; see `SensitivityRecord`.

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> data = (torch.ones(8, 2), torch.ones(8, 1))
    >>> sensitivity(layer, data, sparsities=[0.5], solver="magnitude", loss="mse").levels[0].loss
    0.0
    """

    record: SensitivityRecord

    @property
    def levels(self) -> tuple[LevelRecord, ...]:
        """The growth at every level of every tensor, in the order of the network, rising."""
        return self.record.levels

    @property
    def dense_loss(self) -> float:
        """The mean loss of the network as it is, on validation samples."""
        return self.record.dense_loss

    def __repr__(self) -> str:
        """One line: what was measured, and of how much."""
        run = self.record
        tried = ", ".join(f"{sparsity:g}" for sparsity in run.sparsities)
        summary = f"{run.model} by {run.solver}: {len(run.tensors)} tensors at sparsities {tried}; "
        return f"Sensitivity({summary}{run.loss}, dense: {run.dense_loss:.4g})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of_sensitivity(self.record)

    def described(self, **fields: Any) -> Sensitivity:
        """Return the same with fields of its record replaced, such as the names of the data."""
        record = SensitivityRecord.model_validate({**self.record.model_dump(), **fields})
        return replace(self, record=record)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a folder with `record.json` and `levels.csv`; for a path PATH.csv the latter alone.

        `chita.Searched` takes such a table; the command line reads it as `per_layer`.

        Raises `OutputError` when it exists (and `force` is not set) or cannot be written.
        """
        write_sensitivity(Path(path), self.record, force=force)


def sensitivity(
    model: nn.Module,
    data: Data,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    solver: SolverLike = "chita",
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    fisher: Fisher = Fisher(),
    quadratic: Quadratic = Quadratic(),
    stages: Stages = Stages(),
    validation: int | None = None,
    loss: LossLike = None,
    seed: int = 0,
    progress: ProgressLike = None,
) -> Sensitivity:
    """Prune each tensor by itself to several sparsities, and measure by how much the loss grows.

    The loss is the mean over validation samples; see `chita.pruning.level_costs`.
    Losses of several tensors add up roughly, and only where little is removed.

    Args:
        model: a trained network, which is copied, and run in eval mode.
        data: as in `prune`, for solvers that collect nothing, too: the loss is measured on them.
        sparsities: shares of a tensor removed, each in [0, 1), in any order.
        solver: as in `prune`; not those that only prune layer by layer.
        targets: as in `prune`.
        ignore: as in `prune`.
        fisher: as in `prune`; the same gradients serve all tensors.
        quadratic: as in `prune`, without a first-order term, which trains; "auto" chooses once for
            each tensor, at the sparsity nearest to 0.912.
        stages: only its `bn_recalibrate` has a part: measure with the statistics of batch norms
            taken from the validation samples, where that lowers the loss.
        validation: samples that make no gradient, on which the loss is measured, and by which
            "auto" chooses; None as in `prune`.
        loss: as in `prune`.
        seed: as in `prune`.
        progress: receives gradients and levels.

    Returns:
        The growth of the loss at every level, also at sparsity 0, where it is 0, so that a choice
        among the levels may leave a tensor as it is.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: the loss of the network as it is, or its gradients, are not finite.

    A weight that is zero costs nothing:

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    >>> data = (torch.ones(8, 2), torch.ones(8, 1))
    >>> found = sensitivity(layer, data, sparsities=[0.5], solver="magnitude", loss="mse")
    >>> [(level.sparsity, level.loss) for level in found.levels]
    [(0.0, 0.0), (0.5, 0.0)]
    """
    config = PruneConfig(
        solver=make_solver(solver, seed=seed),
        stages=stages,
        fisher=fisher,
        quadratic=quadratic,
        validation=validation,
        targets=targets,
        ignore=ignore,
        loss=loss,
        seed=seed,
        progress=progress_of(progress),
    )
    return sensitivity_of(model, data, config, sparsities)


@own_modes()
def sensitivity_of(
    model: nn.Module, data: Data, config: PruneConfig, sparsities: Sequence[float]
) -> Sensitivity:
    """Prune each tensor by itself to several sparsities; see `sensitivity`."""
    began = time.perf_counter()
    check_one_stage(config.stages, config.fisher, "sensitivity")
    tried = _checked(sparsities, config)
    network = unwrapped(model)
    layout = prunable_layout(network, config.targets, config.ignore)
    advice = "Give a network that copy.deepcopy copies."
    network = copied(network, advice, written=layout.names)
    with evaluation_mode(network), uncompiled(network), without_cache(network):
        search = LevelSearch(network, layout, as_examples(data) or data, config)
        found = search.run((0.0, *tried), config.progress)
    samples, weighting = found.samples, None
    if samples is not None:
        weighting = "improved" if samples.improved else "empirical"
    names = canonical_names(network)
    tensors = zip(map(names.__getitem__, layout.names), layout.shapes, layout.counts, strict=True)
    record = SensitivityRecord(
        solver=solver_name(config.solver),
        options=solver_options(config.solver),
        settings=_settings(config, tried),
        model=type(network).__name__,
        seed=config.seed,
        samples=found.count,
        samples_per_gradient=config.fisher.samples_per_gradient if found.count else 0,
        data_hash=samples and samples.digest,
        weighting=weighting,
        validation=found.validation,
        loss=found.loss,
        dense_loss=found.dense,
        sparsities=tried,
        tensors=tuple(TensorRecord(name=n, shape=s, weights=c) for n, s, c in tensors),
        levels=levels_of({names[path]: levels for path, levels in found.levels.items()}),
        seconds=with_total(found.seconds, time.perf_counter() - began),
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
    )
    return Sensitivity(record=record)


def _settings(config: PruneConfig, sparsities: tuple[float, ...]) -> dict[str, Any]:
    """Return what was asked for, by the names of the options."""
    asked = {
        **{"sparsities": sparsities, "targets": config.targets, "ignore": config.ignore},
        **values_of(config.sampling),
        **values_of(config.fisher),
        **values_of(replace(config.quadratic, first_order=0.0)),
        "bn_recalibrate": config.stages.bn_recalibrate,
        "loss": loss_name(config.loss),
    }
    return {name: plain(value) for name, value in asked.items()}


def _checked(sparsities: Iterable[float], config: PruneConfig) -> tuple[float, ...]:
    """Return the sparsities above 0, rising.

    Raises `InputError` for what no network and no data could make usable.
    """
    solver, quadratic = config.solver, config.quadratic
    try:
        listed = [*sparsities]
    except TypeError:
        raise InputError(
            f"`sparsities` is {sparsities!r}; give a list of shares removed, such as 0.5, 0.8 and "
            "0.9."
        ) from None
    for sparsity in listed:
        check_share(sparsity)
    twice = sorted({sparsity for sparsity in listed if listed.count(sparsity) > 1})
    if twice:
        raise InputError(f"`sparsities` has {', '.join(map(str, twice))} twice. Give each once.")
    rising = tuple(sorted(float(sparsity) for sparsity in listed if sparsity > 0))
    if not rising:
        raise InputError(f"`sparsities` is {listed!r}; give one above 0 at least, such as 0.8.")
    if not solver.takes(GradientGram):
        raise InputError(
            f"{solver_name(solver)} only prunes layer by layer, and no tensor by itself. Take "
            "chita, magnitude or another solver that `chita solvers` does not list for layers only."
        )
    if config.validation == 0:
        raise InputError(
            "`validation` is 0, but the loss is measured on validation samples. Allow some, or "
            "leave it out."
        )
    if quadratic.first_order not in (AUTO, 0):
        raise InputError(
            f"`first_order` is {quadratic.first_order!r}, but that term trains, and has no part "
            "here. Leave it out."
        )
    settle(quadratic, config.fisher.structure, solver)
    return rising
