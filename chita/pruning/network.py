"""Prune a network in one shot: the whole path on one page."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

from torch import Tensor, nn

from chita.arguments import real_number, whole_number
from chita.collect.gradients import collect_gradients
from chita.data.batches import Batches, Examples, choose, draw
from chita.errors import InputError
from chita.models.mode import evaluation_mode
from chita.models.prunable import prunable_layout, read_weights, write_weights
from chita.progress import Progress, Silent, track
from chita.pruning.pose import Ridge, make_budget, make_problem, make_solver
from chita.pruning.result import PruneResult, make_record
from chita.solvers import Solver


def prune(
    model: nn.Module,
    data: Examples | Batches | tuple[Tensor, Tensor] | None = None,
    *,
    sparsity: float | None = None,
    nnz: int | None = None,
    method: str | Solver = "chita",
    rows: int = 1000,
    row_size: int = 1,
    ridge: float | str = "0.1x",
    first_order: float = 0.0,
    seed: int = 0,
    row_indices: Sequence[int] | None = None,
    inplace: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Choose which weights to remove and how to update the rest, together.

    All weights of linear and convolution layers compete in one budget; exactly the number asked
    for is kept.

    Args:
        model: a trained classifier. It is copied unless `inplace`; in either case it is run in
            eval mode, and training flags are as before at the end.
        data: calibration samples: a pair of tensors (inputs, targets), `Examples`, or re-readable
            batches of such pairs. Not needed for methods that look at the weights alone.
        sparsity: share of weights removed, in [0, 1): floor((1 - sparsity)·p) are kept, in exact
            decimal arithmetic. Give this or `nnz`.
        nnz: number of weights kept.
        method: a name (`chita methods` lists them) or a solver with its options.
        rows: gradients n collected.
        row_size: samples m whose mean loss makes one row; rows·row_size samples are used.
        ridge: λ, which multiplies ½‖w-w̄‖² beside the mean loss; "0.1x" means 0.1 times the mean
            of the Hessian's diagonal.
        first_order: scale s of the first-order term, 0 leaves it out.
        seed: of the draw of samples.
        row_indices: indices of the samples instead of a draw; consecutive groups of m form a row.
        inplace: prune `model` itself. On an error it is left as it was.
        progress: told how collecting and solving advance.

    Returns:
        The pruned network, masks, and the record with objective, counts and timings.

    Raises:
        InputError: an argument, the network or the data cannot be used as given.
        NumericalError: a loss or the linear system is not finite or not definite.
    """
    solver, budget = make_solver(method), make_budget(sparsity, nnz)
    rows = whole_number("rows", rows, at_least=1, meaning="gradients collected")
    row_size = whole_number("row_size", row_size, at_least=1, meaning="samples in a row")
    seed = whole_number("seed", seed, at_least=0, meaning="the draw of samples")
    scale = real_number("first_order", first_order, meaning="the scale of that term, 0 for none")
    damping = Ridge.parse(ridge)
    layout = prunable_layout(model)
    model = model if inplace else _copied(model)
    progress = progress or Silent()
    seconds: dict[str, float] = {}
    with evaluation_mode(model):
        constraint = budget.bind(layout)
        w_bar = read_weights(model, layout)
        began = time.perf_counter()
        examples = gradients = None
        if solver.curvatures:
            examples = _calibration(
                data, rows=rows, row_size=row_size, seed=seed, row_indices=row_indices
            ).to(w_bar.device)
            gradients = collect_gradients(
                model, layout, examples, row_size=row_size, progress=progress
            )
        seconds["collect"] = time.perf_counter() - began

        began = time.perf_counter()
        with track(progress, "solve", 1, "problem"):
            problem = make_problem(w_bar, gradients, damping, scale)
            solution = solver.solve(problem, constraint)
            progress.advance(1)
        seconds["solve"] = time.perf_counter() - began
        write_weights(model, layout, solution.weights)

    record = make_record(
        model,
        solver=solver,
        problem=problem if examples else None,
        solution=solution,
        layout=layout,
        data_hash=examples.digest() if examples else None,
        seconds=seconds,
        rows=len(examples) // row_size if examples else 0,
        row_size=row_size if examples else 0,
        ridge_given=ridge,
        first_order=scale,
        seed=seed,
    )
    return PruneResult(model=model, masks=layout.unflatten(solution.mask), record=record)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # modules may define how they are copied, and fail in any way
        raise InputError(
            f"{type(model).__name__} cannot be copied: {error}. Pass inplace=True to prune it "
            "itself."
        ) from error


def _calibration(
    data: Examples | Batches | tuple[Tensor, Tensor] | None,
    *,
    rows: int,
    row_size: int,
    seed: int,
    row_indices: Sequence[int] | None,
) -> Examples:
    """The samples of the rows, in order."""
    if data is None:
        raise InputError("This method needs calibration data: give pairs (inputs, targets).")
    if row_indices is None:
        return draw(data, rows * row_size, seed)
    return choose(data, row_indices, row_size)
