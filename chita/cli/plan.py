"""`chita plan`: every tensor with the rule that matched it, and what pruning would cost."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.table import Table

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import open_session
from chita.cli.settings import (
    PruneSettings,
    asked_of,
    merge_settings,
    pose_of,
    read_indices,
    stages_of,
)
from chita.pruning.plan import Limit, Plan
from chita.pruning.plan import plan as plan_network
from chita.pruning.pose import make_solver


def plan(
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
    layerwise: opt.Layerwise = None,
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
    config: opt.Config = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Show what `chita prune` would do with the same options, and what it would cost."""
    settings = merge_settings(PruneSettings, config, locals(), option or [])
    solver = make_solver(settings.method, settings.options)
    stages_asked = stages_of(settings)
    pose_of(settings)
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_session(settings, feedback=feedback, needs_data=False, needs_weights=False)
    indices = read_indices(settings.row_indices) if settings.row_indices else None
    found = plan_network(
        session.network,
        session.calibration,
        **asked_of(settings).plain(),
        targets=settings.targets,
        ignore=settings.ignore,
        method=solver,
        stages=stages_asked.number,
        earlier_rows=stages_asked.earlier_rows,
        training=settings.training,
        layerwise=settings.layerwise,
        rows=settings.rows,
        row_size=settings.row_size,
        rows_dtype=settings.rows_dtype,
        loss=session.loss,
        row_indices=indices,
    )
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        _show(settings.model, found)


def _show(name: str, found: Plan) -> None:
    table = Table(title=f"{name}: what would be pruned")
    last = "Gram, MB" if found.layerwise else "rows, MB"
    for column in ("tensor", "shape", "weights", "pruned", "by the rule", last):
        right = column in ("shape", "weights", last)
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for tensor in found.tensors:
        shape = "x".join(map(str, tensor.shape))
        megabytes = f"{tensor.bytes / 1e6:,.1f}" if tensor.pruned else ""
        pruned = "yes" if tensor.pruned else "no"
        table.add_row(tensor.name, shape, f"{tensor.weights:,}", pruned, tensor.rule, megabytes)
    stdout.print(table)
    most = "at most " if found.limits else ""
    kept = "" if found.kept is None else f", of which {most}{found.kept:,} would be kept"
    free = "" if found.free_bytes is None else f" of {found.free_bytes / 1e6:,.0f} MB available"
    collect = found.collect_seconds
    told = "unknown without a sample" if collect is None else f"about {collect:.1f} s"
    seen = "inputs" if found.layerwise else "rows"
    size = f"{found.row_bytes / 1e6:,.1f} MB"
    if found.layerwise:
        size = f"Gram matrices of a block {size}"
    times = f"{seen} {told}, solve about {found.solve_seconds:.1f} s"
    if found.train_seconds != 0:
        trained = found.train_seconds
        told = "unknown without samples" if trained is None else f"about {trained:.0f} s"
        times += f", training {told}"
    lines = [
        f"{found.prunable:,} weights would compete{kept}",
        *map(_limit, found.limits),
        f"{found.rows:,} {'samples' if found.layerwise else 'rows'}: {size}",
        f"predicted peak memory {found.peak_bytes / 1e6:,.0f} MB{free}",
        f"predicted time: {times}",
    ]
    stdout.print("\n".join(lines), highlight=False, soft_wrap=True)


def _limit(limit: Limit) -> str:
    share = 100 * limit.used / limit.whole
    binds = "binds" if limit.binds else "does not bind"
    return (
        f"{limit.of}: {limit.used:,} of {limit.allowed:,} allowed would be used by the largest "
        f"weights, {share:.2f} % of {limit.whole:,}: this {binds}"
    )
