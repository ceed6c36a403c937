"""`chita prune`: prune a network, measure it, write a run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chita.cli import options as opt
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import Session, check_rows, open_session, run, tell_overruled
from chita.cli.settings import (
    PruneSettings,
    asked_of,
    merge_settings,
    pose_of,
    schedule_of,
    stages_of,
)
from chita.cli.show import show
from chita.data.batches import Indexed, check_enough
from chita.data.examples import as_examples
from chita.errors import InputError
from chita.exports.run_folder import check_target
from chita.logger import Logger, TensorBoard
from chita.models.prunable import prunable_layout
from chita.pruning.budget import Asked, layout_for, make_budget
from chita.pruning.by_layers import activation_limit, by_layers
from chita.pruning.layers import check_layers, check_shares, layers_of
from chita.pruning.network import prune as prune_network
from chita.pruning.pose import make_solver
from chita.pruning.result import PruneResult
from chita.records import RunRecord
from chita.solvers import Solver
from chita.training.evaluate import Score
from chita.training.recipe import Training


def prune(
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    loss: opt.Loss = None,
    labels: opt.Labels = None,
    device: opt.Device = None,
    sparsity: opt.Sparsity = None,
    nnz: opt.Nnz = None,
    megabytes: opt.Megabytes = None,
    min_keep: opt.MinKeep = None,
    pattern: opt.Pattern = None,
    blocks: opt.BlocksOf = None,
    per_layer: opt.PerLayer = None,
    flops: opt.Flops = None,
    targets: opt.Targets = None,
    ignore: opt.Ignore = None,
    method: opt.Method = None,
    option: opt.Option = None,
    stages: opt.Stages = None,
    schedule: opt.Schedule = None,
    regrow: opt.Regrow = None,
    earlier_rows: opt.EarlierRows = None,
    gradual: opt.Gradual = None,
    train: opt.Train = None,
    layerwise: opt.Layerwise = None,
    max_memory: opt.MaxMemory = None,
    rows: opt.Rows = None,
    row_size: opt.RowSize = None,
    rows_dtype: opt.RowsDtype = None,
    held_out: opt.HeldOut = None,
    fisher: opt.Fisher = None,
    ridge: opt.Ridge = None,
    first_order: opt.FirstOrder = None,
    step: opt.Step = None,
    fisher_blocks: opt.FisherBlocks = None,
    seed: opt.Seed = None,
    row_indices: opt.RowIndices = None,
    bn_recalibrate: opt.BnRecalibrate = None,
    bound: opt.Bound = None,
    out: opt.Out = None,
    resume: opt.Resume = None,
    force: opt.Force = None,
    config: opt.Config = None,
    as_json: opt.Json = False,
    tensorboard: opt.TensorBoard = None,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Prune a network, at once or in stages, and measure it before and after."""
    began = time.perf_counter()
    if config is not None and gradual is not None:
        raise InputError(f"--config {config} and --gradual {gradual} are two files. Give one.")
    settings = merge_settings(PruneSettings, gradual or config, locals(), option or [], train or [])
    if gradual is not None and settings.training is None:
        settings = settings.model_copy(update={"training": Training()})
    feedback = Feedback(quiet=quiet, log_format=log_format)
    with _logger(tensorboard, resume=settings.resume) as logger:
        record = prune_by(settings, began=began, feedback=feedback, logger=logger)
    show(record, feedback, as_json=as_json, out=settings.out)


def check_prune(settings: PruneSettings) -> None:
    """Raise `InputError` for settings that no network and no data could make usable."""
    budget = make_budget(asked_of(settings))
    solver = make_solver(settings.method, settings.options)
    if by_layers(solver, settings.layerwise):
        check_shares(budget)
    else:
        pose_of(settings).settled(solver)
    activation_limit(settings.max_memory)
    stages_of(settings)
    check_rows(settings)


def prune_by(
    settings: PruneSettings,
    *,
    began: float,
    feedback: Feedback,
    logger: Logger | None = None,
    dense: Score | None = None,
    kept: Path | None = None,
) -> RunRecord:
    """Prune, measure and write as the settings say; `logger` as in `chita.prune`.

    `dense` is what the network measures, where an earlier run has found it; `kept`, a file for what
    is finished, by which a run without a run folder goes on.

    Everything that can be refused is refused before any work.
    """
    check_prune(settings)
    if settings.out:
        check_target(settings.out, force=settings.force)
    unfinished = kept or _unfinished(settings)
    resume = settings.resume or kept is not None
    arguments = settings.row_arguments()
    session = open_session(settings, feedback=feedback)
    solver = make_solver(settings.method, settings.options, settings.seed)
    asked = asked_of(settings)
    _check_budget(session, settings, asked, solver)
    _check_samples(session, settings)
    tell_overruled(session, settings.targets, settings.ignore, feedback)
    if solver.curvatures and session.calibration is None:
        raise InputError(
            f"{settings.model} has no data of its own, and {settings.method} needs calibration "
            "data. Give them with --data."
        )
    with _told_of(unfinished, feedback):
        return run(
            session,
            lambda: _pruned(
                session, settings, asked, solver, arguments, unfinished, resume, logger
            ),
            settings,
            began=began,
            dense=dense,
        )


def _check_budget(session: Session, settings: PruneSettings, asked: Asked, solver: Solver) -> None:
    """Raise `InputError` on a budget that this network cannot meet."""
    budget = make_budget(asked)
    layout = prunable_layout(session.network, settings.targets, settings.ignore)
    if by_layers(solver, settings.layerwise):
        check_layers(budget, layers_of(session.network, layout))
        return
    data, loss = session.calibration, session.loss
    budget.bind(layout_for(budget, layout, session.network, data, loss))


def _check_samples(session: Session, settings: PruneSettings) -> None:
    """Raise `InputError` when more rows are asked for than there are samples."""
    data = as_examples(session.calibration) or session.calibration
    if settings.rows and settings.row_indices is None and isinstance(data, Indexed):
        check_enough(len(data), settings.rows * settings.row_size)


def _pruned(
    session: Session,
    settings: PruneSettings,
    asked: Asked,
    solver: Solver,
    arguments: dict[str, Any],
    unfinished: Path | None,
    resume: bool,
    logger: Logger | None,
) -> PruneResult:
    return prune_network(
        session.network,
        session.calibration,
        **asked.plain(),
        targets=settings.targets,
        ignore=settings.ignore,
        method=solver,
        stages=settings.stages,
        schedule=schedule_of(settings),
        regrow=settings.regrow,
        earlier_rows=settings.earlier_rows,
        training=settings.training,
        measure=None if session.evaluation is None else lambda n: session.measured(n).value,
        layerwise=settings.layerwise,
        max_memory=settings.max_memory,
        **arguments,
        loss=session.loss,
        bound=settings.bound,
        unfinished=unfinished,
        resume=resume,
        progress=session.progress,
        logger=logger,
    )


def _unfinished(settings: PruneSettings) -> Path | None:
    """Where finished stages are kept while the run lasts: beside its run folder.

    Raises `InputError` where there is nothing to resume by.
    """
    if settings.out is None:
        if settings.resume:
            raise InputError("--resume goes on with the run folder of a run; name it with --out.")
        return None
    out = settings.out.absolute()
    path = out.with_name(f"{out.name}.unfinished")
    if settings.force and not settings.resume:
        path.unlink(missing_ok=True)
    return path


@contextmanager
def _logger(folder: Path | None, *, resume: bool) -> Iterator[Logger | None]:
    """What receives the numbers of a run, None where no folder is named for them."""
    if folder is None:
        yield None
        return
    with TensorBoard(folder, resume=resume) as logger:
        yield logger


@contextmanager
def _told_of(unfinished: Path | None, feedback: Feedback) -> Iterator[None]:
    """Say where finished stages are when a block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished is not None and unfinished.exists():
            feedback.notice(f"Finished stages are in {unfinished}; --resume goes on from there.")
        raise
