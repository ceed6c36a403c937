"""Facts about a run, a line for each, on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping

from chita.records import BatchNormRecord, RunRecord


def facts_of(record: RunRecord) -> list[str]:
    """Return the objective, weights and layers that are exceptions, and the course of the run."""
    return [*_searched(record), *_solution(record), *record.notes, *_course(record)]


def _searched(record: RunRecord) -> list[str]:
    """What was lost at the sparsity that was found, of what was allowed."""
    search = record.search
    if search is None:
        return []
    asked = f"of {search.max_loss:.3g} {search.unit} allowed, on {search.samples:,} validation "
    asked += f"samples; {counted(len(search.trials), 'trial')}"
    borne = [t for t in search.trials if t.lost is not None and t.lost <= search.max_loss]
    if not borne:
        return [f"no sparsity that was tried loses as little; {asked}"]
    best = max(borne, key=lambda trial: trial.sparsity)
    error = "" if best.standard_error is None else f" ± {best.standard_error:.2g}"
    return [f"{search.metric}: lost {best.lost:.3g}{error} {asked}"]


def _solution(record: RunRecord) -> list[str]:
    """The objective, and layers that are exceptions."""
    lines = []
    if None not in (record.objective, record.ridge, record.first_order, record.step_size):
        by_outputs = record.stages[-1].structure == "outputs"
        posed = f"ridge {record.ridge:.3g}, first-order scale {record.first_order:.3g}"
        posed += ", Fisher by outputs" if by_outputs else ""
        posed += f", step size {record.step_size:.3g}"
        lines.append(f"objective {record.objective:.6g} at {posed}")
    found = [(layer.name, layer.solved) for layer in record.layers if layer.solved is not None]
    lines += [f"left dense: {name}, which {s.skipped}" for name, s in found if s.skipped]
    raised = [f"{name} ({s.ridge:.3g})" for name, s in found if s.ridge_raised and s.ridge]
    return lines + ([f"ridge raised: {', '.join(raised)}"] if raised else [])


def _course(record: RunRecord) -> list[str]:
    """The course of the run: stages, epochs, batch norms, seconds."""
    lines = []
    if len(record.stages) > 1:
        stages = f"{len(record.stages)} stages"
        losses = [stage.validation_loss for stage in record.stages]
        if losses[0] is not None and losses[-1] is not None:
            stages += f", validation loss {losses[0]:.4g} to {losses[-1]:.4g}"
        lines.append(stages)
    if record.training is not None:
        epochs, stopped = record.training.epochs, record.training.stopped
        trained = counted(len(epochs), "epoch")
        if epochs:
            trained += f", training loss {epochs[0].loss:.4g} to {epochs[-1].loss:.4g}"
        lines += [trained, *([f"training stopped: {stopped}"] if stopped else [])]
    if record.batch_norm is not None:
        lines.append(_batch_norm(record.batch_norm))
    if record.gap is not None:
        gap = f"gap {record.gap:.2%}"
        lines.append(f"no mask has an objective below {record.lower_bound:.6g}: {gap}")
    return [*lines, seconds_of(record.seconds)]


def _batch_norm(done: BatchNormRecord) -> str:
    if not done.samples:
        return f"{done.layers} batch norms kept: batches are of few samples, and have no loss"
    estimated = f"{done.layers} batch norms estimated again from {done.samples:,} samples"
    if not done.taken:
        estimated += ", and not taken"
    if done.loss_before is None or done.loss_after is None:
        return estimated
    losses = f"{done.loss_before:.4g} before, {done.loss_after:.4g} after"
    return f"{estimated}: validation loss {losses}"


def seconds_of(seconds: Mapping[str, float]) -> str:
    """Return the time of each phase in words."""
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def counted(count: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "run"), counted(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
