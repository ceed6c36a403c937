"""The stage of pruning layer by layer: its inputs, its checkpoint and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, final

from torch import Tensor, nn

from chita.collect.order import Order
from chita.constraints import Budget
from chita.data.examples import Examples
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import Loss
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.problem import GradientGram, InputGram
from chita.progress import Progress
from chita.pruning.calibration import Calibration
from chita.pruning.config import AUTO, OUTPUTS, Fisher, Memory, Quadratic, Stages
from chita.pruning.layerwise import LayerPruner
from chita.pruning.result import PruneResult
from chita.pruning.room import run_bytes
from chita.pruning.run import Run
from chita.pruning.state import RunLog, RunState, Saved
from chita.pruning.validation_loss import ValidationLoss
from chita.records import SolvedRecord, StageRecord
from chita.solvers import Solver
from chita.training.batch_norm import batch_norms

_BATCH = 16  # samples that run together


def prunes_layers(solver: Solver, asked: bool | None) -> bool:
    """Return whether to prune layer by layer: as asked, or as the solver does.

    Raises `InputError` when the solver cannot do what is asked.
    """
    able = {kind: solver.takes(kind) for kind in (GradientGram, InputGram)}
    if asked is None:
        return not able[GradientGram]
    if asked and not able[InputGram]:
        raise InputError(
            f"{type(solver).__name__} prunes by gradients and not layer by layer. Leave "
            "`layerwise` out, or take chita, alps or another solver that `chita solvers` lists "
            "for layers."
        )
    if not asked and not able[GradientGram]:
        raise InputError(
            f"{type(solver).__name__} only prunes layer by layer. Leave `layerwise` out."
        )
    return asked


def run_layers(run: Run) -> PruneResult:
    """Prune the blocks of a network one after another; see `LayerPruner`.

    Raises as `chita.prune` does.
    """
    network, layout, config = run.worked_on(), run.layout, run.config
    calibration = run.calibration(network)
    given = calibration.draw()
    checkpoint = run.checkpoint_file(network, data=given.digest())
    with run.at_work(network):
        stage = LayerStage(network, run, calibration, given, progress=config.progress)
        saved = checkpoint.load()
        with state_kept(network):
            layers = stage.begin(run.budget, {} if saved is None else saved.done)
            if saved is not None:
                _restore(layers, layout, saved.mask, saved.done)
            log = RunLog(config.logger, layers=len(layers.solved))

            def finished(done: LayerPruner) -> None:
                log.log(layers=done.solved.values())  # first: what is saved is not done again
                checkpoint.save(lambda: _saved(done, layout), patient=True)

            layers.run(finished)
            checkpoint.flush()
        state = stage.end(layers)
        state.solved = layers.solved
        log.log(stages=state.records)
    return run.result(network, state, seconds={"checkpoint": checkpoint.seconds})


@final
class LayerStage:
    """One stage in which a network is pruned layer by layer.

    Args:
        network: in eval mode, as it is before the stage.
        run: what was asked for.
        calibration: its validation samples may refuse new statistics of batch norms, with targets.
        given: the samples that the layers see.
        progress: receives every step.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        calibration: Calibration,
        given: Examples,
        *,
        progress: Progress,
    ) -> None:
        config = run.config
        self._network, self._layout, self._config = network, run.layout, config
        self._calibration, self._given, self._progress = calibration, given, progress
        self._device = network.get_parameter(run.layout.names[0]).device
        self._loss = config.sampling.loss_for(given.parts[0])
        self._norm_samples: Examples | None = None
        self._validation_loss: ValidationLoss | None = None
        if config.stages.bn_recalibrate and batch_norms(network):
            self._norm_samples = calibration.norm_samples()
            loss = calibration.validation_loss(renewable=True)
            if loss and (config.sampling.validation or _has_targets(loss)):
                self._validation_loss = loss

    def begin(self, budget: Budget, done: Mapping[str, Any] = MappingProxyType({})) -> LayerPruner:
        """Return what prunes the layers, by what an earlier run found out of the network."""
        return LayerPruner(
            self._network,
            self._layout,
            call=lambda batch: _call(self._network, batch, self._loss),
            batches=[*self._given.to(self._device).batches(_BATCH)],
            shares=done.get("shares"),
            order=Order(**done["order"]) if "order" in done else None,
            budget=budget,
            solver=self._config.solver,
            ridge=self._config.quadratic.ridge,
            limit=_activation_limit(self._config.memory),
            progress=self._progress,
        )

    def end(self, layers: LayerPruner) -> RunState:
        """Renew the statistics of batch norms after the layers; return what was reached."""
        normed = None
        if self._norm_samples is not None:
            with layers.timer.phase("batch_norm"):
                normed = self._calibration.renew_batch_norms(
                    self._norm_samples, self._validation_loss, self._progress
                )
        mask = self._layout.flatten(layers.masks)
        return RunState(
            mask=mask,
            records=[_record(layers, mask, self._given.digest())],
            samples=len(self._given),
            validation=len(self._validation_loss) if self._validation_loss else 0,
            loss=self._loss.name,
            batch_norm=normed,
        )


def check_layerwise(solver: Solver, stages: Stages, fisher: Fisher, quadratic: Quadratic) -> None:
    """Raise `InputError` on what has no part here."""
    idle = [
        f"`{name}`"
        for name, given in (
            ("first_order", quadratic.first_order not in (AUTO, 0.0)),
            ("structure", fisher.structure == OUTPUTS),
            ("step_size", quadratic.step_size not in (AUTO, 1.0)),
            ("stages", stages.number > 1),
            ("history", fisher.history > 0),
            ("regrow", not stages.regrow),
            ("bound", solver.bound),
        )
        if given
    ]
    if idle:
        raise InputError(
            "Pruning layer by layer, one stage without a model of the loss, takes no "
            f"{' and no '.join(idle)}. Leave out what is named."
        )


def _has_targets(loss: ValidationLoss) -> bool:
    """Return whether the validation samples have a loss: layers need no targets."""
    try:
        loss.check()
    except InputError:
        return False
    return True


def _activation_limit(memory: Memory) -> int:
    """Return the bytes of activations kept in memory, half of what is free if nothing is said."""
    whole = run_bytes(memory)
    return 1_000_000_000 if whole is None else whole


def _call(network: nn.Module, batch: Any, loss: Loss) -> None:
    with failures_named(network, batch):
        loss.run(network, batch)


def _saved(layers: LayerPruner, layout: Layout) -> Saved:
    """Return what was reached, for a checkpoint."""
    done = {name: solved.model_dump(mode="json") for name, solved in layers.solved.items()}
    plain = {
        "solved": done,
        "seconds": layers.timer.seconds,
        "shares": layers.shares,
        "order": asdict(layers.order),
    }
    mask = layout.flatten(layers.masks)
    return Saved(mask=mask, done=plain, others={}, changed=layers.solved.keys())


def _restore(layers: LayerPruner, layout: Layout, mask: Tensor, plain: Any) -> None:
    """Bring the layers to where they were."""
    layers.masks.update({n: part.cpu() for n, part in layout.unflatten(mask).items()})
    found = plain["solved"].items()
    layers.solved.update({n: SolvedRecord.model_validate(solved) for n, solved in found})
    layers.timer.seconds.update(plain["seconds"])


def _record(layers: LayerPruner, mask: Tensor, digest: str | None) -> StageRecord:
    nnz = int(mask.sum())
    statuses = {solved.status for solved in layers.solved.values() if solved.status is not None}
    return StageRecord(
        sparsity=1 - nnz / len(mask),
        nnz=nnz,
        status=statuses.pop() if len(statuses) == 1 else "iteration limit",
        iterations=0,
        data_hash=digest,
        seconds=layers.timer.seconds,
        memory_mb=layers.timer.memory_mb,
    )
