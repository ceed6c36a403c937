"""`chita prune`: prune a network, measure it, write a run folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from chita.cli.options import OutputOptions
from chita.cli.requests import PruneRequest, Pruning
from chita.cli.session import notice_overruled, open_to_write, recorded, show_result
from chita.constraints import budget_of
from chita.errors import InputError
from chita.logger import Logger, TensorBoard
from chita.pruning.api import perform
from chita.pruning.config import Checkpoint
from chita.pruning.opening import open_prune
from chita.pruning.run import PruneConfig
from chita.records import RunRecord
from chita.solvers.named import make_solver
from chita.training.evaluate import Score


def prune(request: PruneRequest) -> None:
    """Prune as asked, and show what came of it."""
    folder, resume = request.report.tensorboard, request.output.resume
    with nullcontext() if folder is None else TensorBoard(folder, resume=resume) as logger:
        record = prune_by(request, logger=logger)
    show_result(record, request)


def prune_by(
    request: PruneRequest,
    *,
    logger: Logger | None = None,
    dense: Score | None = None,
    kept: Path | None = None,
) -> RunRecord:
    """Prune, measure and write as asked; `logger` as in `chita.prune`.

    `dense` is what the network measures, where an earlier run has found it; `kept`, a file for what
    is finished, from which a run without a run folder goes on.

    Everything that can be refused is refused before any work.
    """
    config, output = config_of(request), request.output
    session = open_to_write(request)
    checkpoint = Checkpoint(kept, resume=True) if kept else _checkpoint(output)
    if config.solver.curvatures:
        session.calibrated(f", and {request.solver.solver} needs calibration data")
    config = replace(session.completed(config), checkpoint=checkpoint, logger=logger)
    run = open_prune(session.network, session.calibration, config)
    notice_overruled(session, request)
    if checkpoint and output.force and not checkpoint.resume:
        checkpoint.path.unlink(missing_ok=True)
    try:
        result = perform(run, session.score, dense=dense, check=session.check)
    except KeyboardInterrupt:
        if checkpoint and checkpoint.path.exists():
            request.report.feedback.notice(
                f"Finished stages are in {checkpoint.path}; --resume goes on from there."
            )
        raise
    return recorded(session, result, request)


def config_of(request: Pruning, *, needs_budget: bool = True) -> PruneConfig:
    """Return what a request asks of a run, but for what its network and data say.

    Raises `InputError` on no budget where one is needed, an unknown solver, or options that it does
    not have.
    """
    budget = budget_of(request.budget) if needs_budget or request.budget.given else None
    return PruneConfig(
        budget=budget,
        solver=make_solver(request.solver.solver, request.solver.options, request.run.seed),
        stages=request.stages,
        fisher=request.fisher,
        quadratic=request.quadratic,
        training=request.training,
        layerwise=request.run.layerwise,
        memory=request.memory,
        validation=request.run.validation,
        targets=request.selection.targets,
        ignore=request.selection.ignore,
        seed=request.run.seed,
    )


def _checkpoint(output: OutputOptions) -> Checkpoint | None:
    """Return where finished stages are kept while the run lasts: beside its run folder.

    Raises `InputError` without a folder to resume from.
    """
    if output.out is None:
        if output.resume:
            raise InputError("`resume` goes on with the run folder of a run; name it with `out`.")
        return None
    out = output.out.absolute()
    return Checkpoint(out.with_name(f"{out.name}.unfinished"), resume=output.resume)
