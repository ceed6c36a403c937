"""Gains, losses and what was not gained, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from chita.metrics import is_accuracy, more_is_better, number
from chita.records import RunRecord
from chita.reports.accuracy import Cell, Table, flops_share, make_table, part_of
from chita.reports.facts import counted, facts_of
from chita.reports.runs import Reported

_RARE = 0.05  # chance of a difference, below which seeds do not explain it
_SPEED = (
    "Speed: nothing was timed here. Most runtimes multiply by zeros as by any number; fewer FLOPs "
    "are no speed-up by themselves."
)


@final
@dataclass(frozen=True, kw_only=True)
class Summary:
    """Sentences: what was `gained`, what was `lost`, what was `not_gained`, and `more`."""

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    not_gained: tuple[str, ...]
    more: tuple[str, ...]


def summary_of(run: Reported) -> Summary:
    """Return the summary of one run."""
    line, record, left = run.line, run.record, flops_share(run.line)
    size = (
        "Size: a dense file holds zeros as it holds any number "
        f"({4 * line['prunable'] / 1e6:.2f} MB for these weights in float32); it compresses better."
    )
    gained = [
        f"{100 * line['sparsity']:.2f} % of the {line['prunable']:,} weights that could be removed "
        f"are zero; {line['nnz']:,} are kept, an exact count."
    ]
    if left is not None:
        share = f"{100 * left:.1f} % of its FLOPs"
        gained.append(f"A forward pass takes {share}, if zeros are skipped.")
    return Summary(
        gained=(*gained, *_dead(record)),
        lost=tuple(_lost(run)),
        not_gained=(_SPEED, size),
        more=() if record is None else (*facts_of(record), *_machine(record)),
    )


def _dead(record: RunRecord | None) -> Iterator[str]:
    dead = sum(layer.dead_outputs for layer in record.layers) if record else 0
    if dead:
        yield (
            f"{counted(dead, 'output')} of layers {'keeps' if dead == 1 else 'keep'} no weight, so "
            "the input does not matter there. Between layers that could be folded away; in the "
            "last layer it is a class or a value that the network can no longer predict."
        )


def _lost(run: Reported) -> Iterator[str]:
    line, metric = run.line, run.metric
    dense, pruned = line.get("dense_metric"), line.get("pruned_metric")
    if metric is None or dense is None:
        yield "Nothing was measured, so the loss is not known. Give evaluation data."
        return
    if pruned is None:
        yield f"{metric}: {number(metric, dense)} before; after it was no finite number."
        return
    before, after = number(metric, dense), number(metric, pruned)
    worse = dense - pruned if more_is_better(metric) else pruned - dense
    change = number(metric, abs(worse)) + (" points" if is_accuracy(metric) else "")
    moved = f"{change} {'worse' if worse > 0 else 'better'}" if before != after else "as before"
    yield f"{metric}{part_of(line)}: {before} before, {after} after, {moved}."
    if line.get("neighbours") is not None:
        yield f"The nearest neighbour is the same for {line['neighbours']:.1f} % of the samples."
    record = run.record
    if record is not None:
        yield from _surprise(record)


def _surprise(record: RunRecord) -> Iterator[str]:
    """The forecast by gradients beside the truth, in the last stage."""
    last = record.stages[-1]
    if last.predicted is None or last.validation_loss is None or last.loss_before is None:
        return
    true = last.validation_loss - last.loss_before
    where = " in the last stage" if len(record.stages) > 1 else ""
    predicted, found = (("rise" if x > 0 else "fall", abs(x)) for x in (last.predicted, true))
    fell = {"rise": "rose", "fall": "fell"}[found[0]]
    yield (
        f"The gradients predicted that the loss would {predicted[0]} by {predicted[1]:.3g}{where}; "
        f"on validation samples it {fell} by {found[1]:.3g}."
    )


def _machine(record: RunRecord) -> Iterator[str]:
    if record.peak_rss_mb is not None:
        yield f"peak memory {record.peak_rss_mb:,.0f} MB"
    if record.dropped:
        yield f"dropped from the checkpoint on loading: {', '.join(record.dropped)}"


def comparison_summary(runs: Sequence[Reported]) -> tuple[str, ...]:
    """Return which run is best at each budget, by how much, and whether seeds could explain it."""
    table = make_table([run.line for run in runs])
    if not table.cells:
        return ("Nothing was measured in these runs, so they cannot be compared.",)
    found = list(filter(None, (_best(table, column) for column in table.columns)))
    unmeasured = sum(run.line.get("pruned_metric") is None for run in runs)
    if unmeasured:
        found.append(f"{counted(unmeasured, 'run')} without a measure, only in the list.")
    return (*found, _SPEED)


def _best(table: Table, column: str) -> str | None:
    sign = 1 if more_is_better(table.metric) else -1
    cells = {row: table.cells[row, column] for row in table.rows if (row, column) in table.cells}
    order = sorted(cells, key=lambda row: -sign * cells[row].mean)
    if len(order) < 2:
        return None
    first, second = order[:2]
    ahead = sign * (cells[first].mean - cells[second].mean)
    if not ahead:
        return f"{column}: {first} and {second} are equal, with {table.text(cells[first])}."
    points = " points" if is_accuracy(table.metric) else ""
    by = f"{number(table.metric, ahead)}{points} ahead of {second}"
    best = f"{column}: {first} is best with {table.text(cells[first])}, {by}"
    return f"{best}; {_clear(cells[first], cells[second])}."


def _clear(one: Cell, two: Cell) -> str:
    """Return if seeds could explain the difference of two means, by Welch's test."""
    if one.spread is None or two.spread is None:
        return "one run each, or of one of them, so chance is not known"
    if not one.spread and not two.spread:
        return "no seed changes either"
    from scipy.stats import ttest_ind_from_stats  # noqa: PLC0415 - half a second

    numbers = (one.mean, one.spread, one.count, two.mean, two.spread, two.count)
    chance = float(ttest_ind_from_stats(*numbers, equal_var=False).pvalue)
    could = "could" if chance >= _RARE else "would rarely"
    return f"seeds {could} explain it (p = {chance:.2g}, {min(one.count, two.count)} seeds)"
