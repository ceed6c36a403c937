"""`chita prune`: prune a network, measure it, write a run folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from chita.cli import options as opt
from chita.cli.console import ConsoleProgress, stderr, stdout
from chita.cli.settings import PruneSettings, merge_settings, read_indices
from chita.data.sets import load_dataset
from chita.export.run_folder import check_target
from chita.models.zoo import MODELS
from chita.pruning.network import prune as prune_network
from chita.pruning.pose import make_budget, make_solver
from chita.records import RunRecord, peak_rss_mb
from chita.training.evaluate import METRIC, accuracy


def prune(
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    device: opt.Device = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Share of the weights to remove, in [0, 1).")
    ] = None,
    nnz: Annotated[int | None, typer.Option(help="Weights to keep, instead of --sparsity.")] = None,
    method: Annotated[
        str | None, typer.Option(help="As listed by `chita methods`. [default: chita]")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value for the method; may be repeated.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Gradients to collect, n. [default: 1000]")
    ] = None,
    row_size: Annotated[
        int | None, typer.Option(help="Samples averaged in a row, m. [default: 1]")
    ] = None,
    ridge: Annotated[
        str | None,
        typer.Option(help="λ, or a multiple of the mean curvature such as 0.1x. [default: 0.1x]"),
    ] = None,
    first_order: Annotated[
        float | None, typer.Option(help="Scale of the first-order term. [default: 0]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw of samples. [default: 0]")] = None,
    row_indices: Annotated[
        Path | None,
        typer.Option(help="File of sample indices, one a line, instead of --seed and --rows."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.")] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Replace the run folder --out if it exists.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of these settings; the command line wins.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Prune a network in one shot and measure it before and after."""
    began = time.perf_counter()
    given = {
        name: value
        for name, value in locals().items()
        if name in PruneSettings.model_fields and name != "options"
    }
    settings = merge_settings(config, given, option or [])
    record = _run(settings, began)
    if as_json:
        print(json.dumps(summary(record)))
    else:
        _show(record)
        if settings.out:
            stderr.print(f"Written: {settings.out}", markup=False)


def summary(record: RunRecord) -> dict[str, object]:
    """Return the object that `--json` prints; `objective` is Q, None for methods without one."""
    return {
        "dense_accuracy": record.dense_metric,
        "accuracy": record.pruned_metric,
        "metric": record.metric,
        "sparsity": record.sparsity,
        "nnz": record.nnz,
        "prunable": record.prunable,
        "objective": record.objective,
        "ridge": record.ridge,
        "first_order": record.first_order,
        "method": record.method,
        "stages": record.stages,
        "seconds": record.seconds,
        "peak_rss_mb": record.peak_rss_mb,
        "seed": record.seed,
    }


def _run(settings: PruneSettings, began: float) -> RunRecord:
    # Everything that can be refused is refused before any work.
    make_budget(settings.sparsity, settings.nnz)
    solver = make_solver(settings.method, settings.options)
    if settings.out:
        check_target(settings.out, force=settings.force)
    indices = read_indices(settings.row_indices) if settings.row_indices else None
    device = opt.usable_device(settings.device)
    network, dropped = opt.load_network(
        settings.model, settings.weights, allow_pickle=settings.allow_pickle, device=device
    )
    data_name = settings.data or MODELS[settings.model].data
    calibration, evaluation = load_dataset(data_name, settings.data_dir)
    evaluation = evaluation.to(device)

    progress = ConsoleProgress()
    evaluating = time.perf_counter()
    dense = accuracy(network, evaluation, progress=progress)
    evaluate_seconds = time.perf_counter() - evaluating
    result = prune_network(
        network,
        calibration,
        sparsity=settings.sparsity,
        nnz=settings.nnz,
        method=solver,
        rows=settings.rows,
        row_size=settings.row_size,
        ridge=settings.ridge,
        first_order=settings.first_order,
        seed=settings.seed,
        row_indices=indices,
        progress=progress,
    )
    evaluating = time.perf_counter()
    pruned = accuracy(result.model, evaluation, progress=progress)
    evaluate_seconds += time.perf_counter() - evaluating

    measured = {
        "model": settings.model,
        "data": data_name,
        "metric": METRIC,
        "dense_metric": dense,
        "pruned_metric": pruned,
        "dropped": dropped,
        "peak_rss_mb": peak_rss_mb(),
        "seconds": {
            **result.seconds,
            "evaluate": evaluate_seconds,
            "total": time.perf_counter() - began,
        },
    }
    result = result.described(**measured)
    if settings.out:
        result.save(settings.out, force=settings.force)
    return result.record


def _show(record: RunRecord) -> None:
    table = Table(title=f"{record.model} on {record.data}, pruned by {record.method}")
    for column in ("layer", "shape", "weights", "kept", "removed %"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in record.layers:
        shape = " x ".join(map(str, layer.shape))
        removed = f"{100 * (1 - layer.kept / layer.weights):.2f}"
        table.add_row(layer.name, shape, f"{layer.weights:,}", f"{layer.kept:,}", removed)
    table.add_section()
    removed = f"{100 * record.sparsity:.2f}"
    table.add_row("all", "", f"{record.prunable:,}", f"{record.nnz:,}", removed)
    stdout.print(table)
    lines = [f"{record.metric}: {record.dense_metric:.2f} dense, {record.pruned_metric:.2f} pruned"]
    if record.objective is not None:
        lines.append(f"objective {record.objective:.6g} at ridge {record.ridge:.3g}")
    lines.append(", ".join(f"{name} {value:.2f} s" for name, value in record.seconds.items()))
    stdout.print("\n".join(lines), highlight=False)
