"""Opening a run: everything that can be refused is refused here, before any work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.constraints import FixedMasks, MaxLoss
from chita.data.batches import Data
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.masks.fit import Masks, fit_masks
from chita.models.mode import own_modes
from chita.models.prunable import notes_on, prunable_layout
from chita.models.tensors import check_writable
from chita.models.wrappers import unwrapped
from chita.pruning.calibration import check_samples
from chita.pruning.config import AUTO, check_one_stage
from chita.pruning.gradual import check_training
from chita.pruning.layer_matrices import check_layers, check_shares, layers_of
from chita.pruning.layer_stage import check_layerwise, prunes_layers
from chita.pruning.max_loss import check_max_loss
from chita.pruning.run import PruneConfig, Run, layout_for
from chita.solvers.named import solver_name
from chita.training.batch_norm import batch_norms


def check_config(config: PruneConfig) -> None:
    """Raise `InputError` for options that together no network and no data could make usable."""
    check_max_loss(config)
    solver = config.solver
    layers = prunes_layers(solver, config.layerwise)
    if solver.bound and not solver.curvatures:
        raise InputError(
            f"{solver_name(solver)} collects no gradients, so no bound can be proven. Leave its "
            "option bound out."
        )
    if not layers:
        _check_tuned(config)
        return
    if config.budget is not None:
        check_shares(config.budget)
    check_layerwise(solver, config.stages, config.fisher, config.quadratic)


@own_modes()
def open_prune(model: nn.Module, data: Data | None, config: PruneConfig) -> Run:
    """Return a run of pruning, as `chita.prune` is asked for it, with everything checked.

    Raises `InputError` as `chita.prune` does, before any work.
    """
    assert config.budget is not None
    began = time.perf_counter()
    check_config(config)
    budget, layerwise = config.budget, prunes_layers(config.solver, config.layerwise)
    network = unwrapped(model)
    layout = prunable_layout(network, config.targets, config.ignore)
    data = as_examples(data) or data
    if config.solver.curvatures or isinstance(budget, MaxLoss):
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
        notes=notes_on(network, config.targets, config.ignore),
    )
    if config.training is not None:
        check_training(run, config.training)
    if layerwise:
        check_layers(budget, layers_of(network, run.layout))
    else:
        budget.bind(run.layout)
    return _opened(run, began)


@own_modes()
def open_refit(model: nn.Module, data: Data, masks: Masks, config: PruneConfig) -> Run:
    """Return a run that gives the weights of a mask their best values; see `chita.refit`."""
    began = time.perf_counter()
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
    run = Run(
        command="refit",
        config=config,
        budget=budget,
        model=model,
        network=network,
        layout=layout_for(budget, layout, network, data, config.loss, recorded=True),
        data=data,
        others={"mask": _source(masks)},
    )
    return _opened(run, began)


@own_modes()
def open_apply(model: nn.Module, masks: Masks, config: PruneConfig) -> Run:
    """Return a run that sets to zero what a mask removes; see `chita.apply_masks`."""
    began = time.perf_counter()
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    run = Run(
        command="apply",
        config=config,
        budget=FixedMasks(masks=fitted),
        model=model,
        network=network,
        layout=layout,
        others={"mask": _source(masks)},
    )
    return _opened(run, began)


def _check_tuned(config: PruneConfig) -> None:
    """Raise `InputError` where something is chosen by validation samples, and there are none."""
    if config.is_tuned and config.validation == 0:
        raise InputError(
            "`validation` is 0, but auto chooses by validation samples. Allow some, or give "
            "`ridge`, `first_order`, `step_size` and `structure`."
        )


def _nothing_to_do(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    with torch.no_grad():
        return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items())


def _opened(run: Run, began: float) -> Run:
    """Return the run with the seconds since it `began` to be opened.

    Raises `InputError` where it would write in place what cannot be written.
    """
    config, network = run.config, run.network
    if config.inplace:
        written: dict[str, Tensor] = dict(network.named_parameters())
        if config.training is None:
            written = {name: network.get_parameter(name) for name in run.layout.names}
        if run.data is not None and config.stages.bn_recalibrate:
            buffers = [buffer for norm in batch_norms(network) for buffer in norm.buffers()]
            held = {id(buffer) for buffer in buffers}
            written |= {name: b for name, b in network.named_buffers() if id(b) in held}
        check_writable(network, written)
    return replace(run, opening=time.perf_counter() - began)


def _source(masks: Masks) -> str:
    return str(masks) if isinstance(masks, (str, Path)) else f"{len(masks)} tensors"
