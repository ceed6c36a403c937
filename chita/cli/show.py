"""A run as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from chita.cli.console import stdout
from chita.cli.feedback import Feedback
from chita.metrics import number
from chita.pruning.posed import OUTPUTS
from chita.records import BatchNormRecord, LayerRecord, RunRecord
from chita.reports.summary import summary


def show(record: RunRecord, feedback: Feedback, *, as_json: bool, out: Path | None) -> None:
    """Print a record: one JSON object, or a table with a few lines below it."""
    if as_json:
        print(json.dumps(summary(record)))
        return
    _show(record)
    if out:
        feedback.notice(f"Written: {out}")


def _show(record: RunRecord) -> None:
    on = f" on {record.data}" if record.data else ""
    did = {"prune": f"pruned by {record.method}", "refit": "refitted", "apply": "masked"}
    table = Table(title=f"{record.model}{on}, {did[record.command]}")
    table.add_column("layer", overflow="fold")
    for column in ("shape", "weights", "kept", "removed %", "dead outputs"):
        table.add_column(column, justify="right")
    solved = any(layer.solved is not None for layer in record.layers)
    if solved:
        table.add_column("error %", justify="right")
    for layer in record.layers:
        shape = "x".join(map(str, layer.shape))
        removed = f"{layer.removed:.2f}"
        counts = (f"{layer.weights:,}", f"{layer.kept:,}", removed, f"{layer.dead_outputs:,}")
        table.add_row(layer.name, shape, *counts, *([_error(layer)] if solved else []))
    table.add_section()
    removed = f"{100 * record.sparsity:.2f}"
    dead = sum(layer.dead_outputs for layer in record.layers)
    table.add_row("all", "", f"{record.prunable:,}", f"{record.nnz:,}", removed, f"{dead:,}")
    stdout.print(table)
    lines = []
    if record.metric and record.dense_metric is not None and record.pruned_metric is not None:
        dense = number(record.metric, record.dense_metric)
        pruned = number(record.metric, record.pruned_metric)
        lines.append(f"{record.metric}: {dense} dense, {pruned} pruned")
    if record.neighbours is not None:
        lines.append(f"the same nearest neighbour: {record.neighbours:.2f} % of samples")
    if record.flops is not None and record.dense_flops:
        share = 100 * record.flops / record.dense_flops
        lines.append(
            f"FLOPs of a sample: {record.flops:,} of {record.dense_flops:,}, {share:.2f} %"
        )
    if record.objective is not None:
        posed = f"ridge {record.ridge:.3g}, first-order scale {record.first_order:.3g}"
        if record.stages[-1].fisher_blocks == OUTPUTS:
            posed += ", Fisher by outputs"
        lines.append(f"objective {record.objective:.6g} at {posed}, step {record.step:.3g}")
    lines += _left(record)
    if len(record.stages) > 1:
        lines.append(_stages(record))
    lines += _trained(record)
    if record.batch_norm is not None:
        lines.append(_batch_norm(record.batch_norm))
    if record.gap is not None:
        lines.append(
            f"no mask has an objective below {record.lower_bound:.6g}: gap {record.gap:.2%}"
        )
    lines.append(", ".join(f"{name} {value:.2f} s" for name, value in record.seconds.items()))
    stdout.print("\n".join(lines), highlight=False)


def _error(layer: LayerRecord) -> str:
    """The error of a layer's outputs, or that it was left dense."""
    if layer.solved is None or layer.solved.error is None:
        return "left dense" if layer.solved and layer.solved.left else ""
    return f"{100 * layer.solved.error:.3f}"


def _left(record: RunRecord) -> list[str]:
    """Layers that were not pruned, with the reason, and those whose ridge was raised."""
    found = [(layer.name, layer.solved) for layer in record.layers if layer.solved is not None]
    lines = [f"left dense: {name}, which {s.left}" for name, s in found if s.left is not None]
    raised = [f"{name} ({s.ridge:.3g})" for name, s in found if s.raised]
    return lines + ([f"ridge raised: {', '.join(raised)}"] if raised else [])


def _stages(record: RunRecord) -> str:
    told = f"{len(record.stages)} stages"
    last = record.stages[-1].held_out_loss
    if last is not None:
        told += f", held-out loss {record.stages[0].held_out_loss:.4g} to {last:.4g}"
    return told


def _trained(record: RunRecord) -> list[str]:
    """The epochs, and why they ended early."""
    if record.training is None:
        return []
    epochs, stopped = record.training.epochs, record.training.stopped
    told = f"{len(epochs)} epochs"
    if epochs:
        told += f", training loss {epochs[0].loss:.4g} to {epochs[-1].loss:.4g}"
    return [told, *([f"training stopped: {stopped}"] if stopped else [])]


def _batch_norm(done: BatchNormRecord) -> str:
    told = f"{done.layers} batch norms estimated anew from {done.samples:,} samples"
    if not done.taken:
        told += ", and not taken"
    if done.loss_before is None or done.loss_after is None:
        return told
    return f"{told}: held-out loss {done.loss_before:.4g} before, {done.loss_after:.4g} after"
