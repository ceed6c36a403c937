"""Runs: opened, which refuses all that can be refused, then run to a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.constraints import Budget, FixedMasks
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.losses import LossLike
from chita.masks.fit import Masks, fit_masks
from chita.models.prunable import prunable_layout
from chita.models.wrappers import unwrapped
from chita.progress import Progress
from chita.pruning.calibration import check_samples
from chita.pruning.config import (
    AUTO,
    Fisher,
    Quadratic,
    RunOptions,
    Stages,
    check_one_stage,
)
from chita.pruning.gradual import check_training, run_gradual
from chita.pruning.layer_matrices import check_layers, check_shares, layers_of
from chita.pruning.layer_stage import check_layerwise, prunes_layers, run_layers
from chita.pruning.level_costs import with_levels
from chita.pruning.pilot import run_loop
from chita.pruning.result import PruneResult
from chita.pruning.run import PruneConfig, Run, layout_for
from chita.pruning.stages import StageLoop
from chita.pruning.state import RunLog, RunState, Saved
from chita.pruning.tuning import is_tuned, settle
from chita.records import peak_rss_mb
from chita.solvers import Solver
from chita.solvers.named import solver_name
from chita.training.evaluate import Score, evaluate

Scorer = Callable[[nn.Module], Score]
"""Measures how good a network is."""


def perform(run: Run, scorer: Scorer | None = None, *, dense: Score | None = None) -> PruneResult:
    """Measure the network, prune it gradually, layer by layer or in stages, and measure the result.

    `dense` is what the network measures, where that is known.
    """
    if run.config.training is not None:
        work = partial(run_gradual, run, run.config.training)
    else:
        work = partial(run_layers if run.layerwise else run_stages, run)
    return before_and_after(run.model, scorer, work, dense=dense)


def check_options(
    budget: Budget | None,
    solver: Solver,
    stages: Stages,
    fisher: Fisher,
    quadratic: Quadratic,
    layerwise: bool | None,
) -> bool:
    """Return whether to prune layer by layer.

    Raises `InputError` for options that together no network and no data could make usable.
    """
    layers = prunes_layers(solver, RunOptions(layerwise=layerwise).layerwise)
    if solver.bound and not solver.curvatures:
        raise InputError(
            f"{solver_name(solver)} collects no gradients, so no bound can be proven. Leave its "
            "option bound out."
        )
    if layers:
        if budget is not None:
            check_shares(budget)
        check_layerwise(solver, stages, fisher, quadratic)
    else:
        settle(quadratic, fisher.structure, solver)
    return layers


def open_prune(model: nn.Module, data: Data | None, config: PruneConfig) -> Run:
    """Return a run of pruning, as `chita.prune` is asked for it, with everything checked.

    Raises `InputError` as `chita.prune` does, before any work.
    """
    assert config.budget is not None
    budget, solver, quadratic = config.budget, config.solver, config.quadratic
    stages, fisher = config.stages, config.fisher
    layerwise = check_options(budget, solver, stages, fisher, quadratic, config.layerwise)
    if not layerwise:
        _check_tuned(config)
    network = unwrapped(model)
    layout = prunable_layout(network, config.targets, config.ignore)
    data = as_examples(data) or data
    if solver.curvatures:
        check_samples(config.sampling, data)
    run = Run(
        command="prune",
        config=config,
        budget=budget,
        model=model,
        network=network,
        layout=layout_for(budget, layout, network, data, config.loss, recorded=True),
        data=data,
        layerwise=layerwise,
        others={"targets": config.targets, "ignore": config.ignore},
    )
    if config.training is not None:
        check_training(run)
    if layerwise:
        check_layers(budget, layers_of(network, run.layout))
    else:
        budget.bind(run.layout)
    return run


def open_refit(model: nn.Module, data: Data, masks: Masks, config: PruneConfig) -> Run:
    """Return a run that gives the weights of a mask their best values; see `chita.refit`."""
    check_one_stage(config.stages, config.fisher, "refitting")
    _check_tuned(config)
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    if config.quadratic.first_order in (0, AUTO) and _nothing_to_do(network, fitted):
        raise InputError(
            "The weights that the mask removes are zero already, so refitting changes nothing. "
            "Give the network as it was before pruning."
        )
    data = as_examples(data) or data
    check_samples(config.sampling, data)
    budget = FixedMasks(masks=fitted)
    return Run(
        command="refit",
        config=config,
        budget=budget,
        model=model,
        network=network,
        layout=layout_for(budget, layout, network, data, config.loss, recorded=True),
        data=data,
        others={"mask": _source(masks)},
    )


def open_apply(model: nn.Module, masks: Masks, config: PruneConfig) -> Run:
    """Return a run that sets to zero what a mask removes; see `chita.apply_masks`."""
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    return Run(
        command="apply",
        config=config,
        budget=FixedMasks(masks=fitted),
        model=model,
        network=network,
        layout=layout,
        others={"mask": _source(masks)},
    )


@torch.inference_mode(False)
def run_stages(run: Run) -> PruneResult:
    """Prune in stages, after pilot runs where λ is to be chosen; also the path of refitting."""
    network, config = run.worked_on(), run.config
    several = config.stages.number > 1  # one stage has no finished part to keep
    checkpoint = run.checkpoint_file(network, wanted=several)
    with run.at_work(network, run.layout):
        budget, searching = with_levels(run, network)
        loop = StageLoop(network, run, budget)
        # After the loop was made, since labels of validation may be drawn from the dense network,
        # which this overwrites.
        saved = checkpoint.load()
        state = RunState.begin(network, run.layout)
        if saved is not None:
            state = RunState.of(saved.mask, saved.done, saved.others)
        log = RunLog(config.logger, stages=len(state.records))

        def finished(state: RunState) -> None:
            log.log(stages=state.records)  # first: what is saved is not done again
            checkpoint.save(
                lambda: Saved(mask=state.mask, done=state.plain(), others=state.tensors())
            )

        state = run_loop(loop, state, finished)
        checkpoint.remove()
    return run.result(network, state, budget=budget, searching=searching)


def _check_tuned(config: PruneConfig) -> None:
    """Raise `InputError` where something is chosen by validation samples, and there are none."""
    settled = settle(config.quadratic, config.fisher.structure, config.solver)
    if config.validation == 0 and config.solver.curvatures and is_tuned(*settled):
        raise InputError(
            "`validation` is 0, but auto chooses by validation samples. Allow some, or give "
            "`ridge`, `first_order`, `step_size` and `structure`."
        )


def _nothing_to_do(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    with torch.no_grad():
        return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items())


def _source(masks: Masks) -> str:
    return str(masks) if isinstance(masks, (str, Path)) else f"{len(masks)} tensors"


def scorer_of(data: Data | None, loss: LossLike, progress: Progress) -> Scorer | None:
    """Return what measures as `chita.evaluate` does by the loss, None without data."""
    if data is None:
        return None
    return lambda network: evaluate(network, data, loss=loss, progress=progress)


def before_and_after(
    network: nn.Module,
    scorer: Scorer | None,
    work: Callable[[], PruneResult],
    *,
    dense: Score | None = None,
) -> PruneResult:
    """Do work on a network, and put what was measured before and after into its record.

    Seconds by phase are then also those of `evaluate`, and of all together, `total`. `dense` is
    what the network measures, where that is known.
    """
    if scorer is None:
        return work()
    began = time.perf_counter()
    dense = dense or scorer(network)
    measuring = time.perf_counter() - began
    result = work()
    worked = time.perf_counter()
    pruned = scorer(result.model)
    ended = time.perf_counter()
    measuring += ended - worked
    return result.described(
        metric=dense.metric,
        dense_metric=dense.value,
        pruned_metric=pruned.value,
        neighbours=pruned.neighbours,
        peak_rss_mb=peak_rss_mb(),
        seconds={**result.seconds, "evaluate": measuring, "total": ended - began},
    )


def value_of(scorer: Scorer | None) -> Callable[[nn.Module], float] | None:
    """Return what measures a network as one number, None without a scorer."""
    return None if scorer is None else lambda network: scorer(network).value
