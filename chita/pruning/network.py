"""Prune a network in one shot: the whole path on one page."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from chita.collect.gradients import collect_gradients
from chita.constraints import Budget
from chita.data.batches import Data
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import LossLike
from chita.models.mode import evaluation_mode, state_kept
from chita.models.prunable import prunable_layout, read_weights, write_weights
from chita.models.wrappers import uncompiled, unwrapped
from chita.progress import Progress, Silent, track
from chita.pruning.pose import Pose, make_budget, make_problem, make_solver
from chita.pruning.result import PruneResult, make_record
from chita.pruning.samples import Sampling
from chita.solvers import Solver


def prune(
    model: nn.Module,
    data: Data | None = None,
    *,
    sparsity: float | None = None,
    nnz: int | None = None,
    min_keep: int = 1,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    method: str | Solver = "chita",
    rows: int = 1000,
    row_size: int = 1,
    rows_dtype: str | None = None,
    loss: LossLike = None,
    labels: str = "data",
    ridge: float | str = "0.1x",
    first_order: float = 0.0,
    seed: int = 0,
    row_indices: Sequence[int] | None = None,
    bound: bool = False,
    inplace: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Choose which weights to remove and how to update the rest, together.

    All weights of linear, convolution, attention and recurrent layers compete in one budget;
    exactly the number asked for is kept.

    Args:
        model: a trained network. It is copied unless `inplace`; in either case it is run in eval
            mode, and training flags are as before at the end. `DataParallel` and compiled
            wrappers are taken off.
        data: calibration samples: a pair (inputs, targets), a dict for `model(**batch)`,
            `Examples`, or re-readable batches of such. Several inputs come as a tuple. Not needed
            for methods that look at the weights alone.
        sparsity: share of weights removed, in [0, 1): floor((1 - sparsity)·p) are kept, in exact
            decimal arithmetic. Give this or `nnz`.
        nnz: number of weights kept.
        min_keep: weights kept at least in every tensor, against collapsed layers.
        targets: names, globs, `re:` patterns or module types of what to prune; None for all
            weights of such layers but embeddings. See `chita.models.targets.decide`.
        ignore: the same of what to leave untouched.
        method: a name (`chita methods` lists them) or a solver with its options.
        rows: gradients n collected.
        row_size: samples m whose mean loss makes one row; rows·row_size samples are used.
        rows_dtype: "float32", "bfloat16" or "float16" to keep the rows so, in less memory; None
            keeps them in the type of the weights, float32 at least. Products are in float32.
        loss: "cross_entropy", "nll", "mse", "model" (what `model(**batch).loss` returns) or a
            function (model, batch) -> mean loss; None for "model" with dicts, else cross-entropy.
        labels: "data", or "model" to draw targets from the network's predictions (true Fisher).
        ridge: λ, which multiplies ½‖w-w̄‖² beside the mean loss; "0.1x" means 0.1 times the mean
            of the Hessian's diagonal.
        first_order: scale s of the first-order term, 0 leaves it out.
        seed: of the draw of samples and labels.
        row_indices: indices of the samples instead of a draw; consecutive groups of m form a row.
        bound: also prove how low the objective can be at all (`lower_bound` in the record).
        inplace: prune `model` itself. On an error it is left as it was.
        progress: told how collecting and solving advance.

    Returns:
        The pruned network, masks, and the record with objective, counts and timings.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: a loss or the linear system is not finite or not definite.
    """
    settings = {"sparsity": sparsity, "nnz": nnz, "min_keep": min_keep}
    return one_shot(
        model,
        data,
        command="prune",
        choose=lambda network: prunable_layout(network, targets, ignore),
        budget=make_budget(sparsity, nnz, min_keep),
        solver=make_solver(method),
        sampling=Sampling(
            rows=rows,
            row_size=row_size,
            rows_dtype=rows_dtype,
            loss=loss,
            labels=labels,
            seed=seed,
            row_indices=row_indices,
        ),
        pose=Pose(ridge=ridge, first_order=first_order),
        settings={**settings, "targets": targets, "ignore": ignore, "bound": bound},
        bound=bound,
        inplace=inplace,
        progress=progress,
    )


@torch.inference_mode(False)
def one_shot(
    model: nn.Module,
    data: Data | None,
    *,
    command: str,
    choose: Callable[[nn.Module], Layout],
    budget: Budget,
    solver: Solver,
    sampling: Sampling,
    pose: Pose,
    settings: dict[str, Any],
    inplace: bool,
    progress: Progress | None,
    bound: bool = False,
) -> PruneResult:
    """Choose weights, collect, pose, solve, write; the common path of pruning and refitting."""
    network = unwrapped(model)
    layout = choose(network)
    network = network if inplace else _copied(network)
    progress = progress or Silent()
    seconds: dict[str, float] = {}
    with evaluation_mode(network), uncompiled(network):
        constraint = budget.bind(layout)
        w_bar = read_weights(network, layout)
        began = time.perf_counter()
        drawn = collected = None
        if solver.curvatures:
            with state_kept(network):
                device = network.get_parameter(layout.names[0]).device
                drawn = sampling.of(data, network, device)
                collected = collect_gradients(
                    network,
                    layout,
                    drawn.examples,
                    row_size=sampling.row_size,
                    loss=drawn.loss,
                    storage=sampling.storage,
                    progress=progress,
                )
        seconds["collect"] = time.perf_counter() - began

        began = time.perf_counter()
        with track(progress, "solve", 1, "problem"):
            problem = make_problem(w_bar, collected and collected.rows, pose, layout.segments)
            solution = solver.solve(problem, constraint, bound=bound)
            progress.advance(1)
        seconds["solve"] = time.perf_counter() - began
        write_weights(network, layout, solution.weights)

    record = make_record(
        network,
        command=command,
        solver=solver,
        problem=problem if drawn else None,
        solution=solution,
        layout=layout,
        drawn=drawn,
        ways=collected.ways if collected else {},
        sampling=sampling,
        pose=pose,
        settings=settings,
        seconds=seconds,
    )
    return PruneResult(model=network, masks=layout.unflatten(solution.mask), record=record)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # modules may define how they are copied, and fail in any way
        raise InputError(
            f"{type(model).__name__} cannot be copied: {error}. Pass inplace=True to prune it "
            "itself."
        ) from error
