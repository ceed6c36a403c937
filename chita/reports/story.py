"""What runs gained, lost and did not gain, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from scipy.special import stdtr

from chita.metrics import is_accuracy, more_is_better, number
from chita.records import RunRecord
from chita.reports.accuracy import AROUND, Cell, Table, make_table
from chita.reports.runs import Reported

_RARE = 0.05  # chance of a difference, at which it is no longer put down to seeds


@final
@dataclass(frozen=True, kw_only=True)
class Story:
    """Sentences: what was `gained`, what was `lost`, what was `not_gained`, and `more`."""

    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    not_gained: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


def story_of(run: Reported) -> Story:
    """Return the story of one run."""
    line, record = run.line, run.record
    share = 100 * line["sparsity"]
    gained = [
        f"{share:.2f} % of the {line['prunable']:,} weights that could be removed are zero; "
        f"{line['nnz']:,} are kept, an exact count."
    ]
    if line.get("flops") is not None and line.get("dense_flops"):
        left = 100 * line["flops"] / line["dense_flops"]
        gained.append(f"A forward pass has {left:.1f} % of its FLOPs left, if zeros are skipped.")
    if run.record is not None:
        gained += _dead(run.record)
    return Story(
        gained=tuple(gained),
        lost=tuple(_lost(run)),
        not_gained=tuple(_not_gained(line["prunable"])),
        more=tuple(_more(record)) if record is not None else (),
    )


def _dead(record: RunRecord) -> Iterator[str]:
    dead = sum(layer.dead_outputs for layer in record.layers)
    if dead:
        yield (
            f"{_count(dead, 'output')} of layers {'keeps' if dead == 1 else 'keep'} no weight and "
            "no longer looks at the input. Between layers that could be folded away; in the last "
            "layer it is a class or value that nothing speaks for."
        )


def _lost(run: Reported) -> Iterator[str]:
    line, metric = run.line, run.metric
    dense, pruned = line.get("dense_metric"), line.get("pruned_metric")
    if metric is None or dense is None:
        yield "Nothing was measured, so nobody knows what was lost. Give evaluation data."
        return
    if pruned is None:
        yield f"{metric}: {number(metric, dense)} before; after it was no finite number."
        return
    before, after = number(metric, dense), number(metric, pruned)
    worse = dense - pruned if more_is_better(metric) else pruned - dense
    change = number(metric, abs(worse)) + (" points" if is_accuracy(metric) else "")
    told = f"{change} {'worse' if worse > 0 else 'better'}" if before != after else "as before"
    yield f"{metric}: {before} before, {after} after, {told}."
    if line.get("neighbours") is not None:
        yield f"The nearest neighbour is the same for {line['neighbours']:.1f} % of the samples."
    record = run.record
    if record is not None:
        yield from _surprise(record)
        yield from (
            f"{layer.name} was left dense: it {layer.solved.left}."
            for layer in record.layers
            if layer.solved is not None and layer.solved.left is not None
        )
        if record.training is not None and record.training.stopped:
            yield f"Training stopped early: {record.training.stopped}."


def _surprise(record: RunRecord) -> Iterator[str]:
    """How the forecast by gradients compares with the truth, in the last stage."""
    last = record.stages[-1]
    if last.predicted is None or last.held_out_loss is None or last.loss_before is None:
        return
    true = last.held_out_loss - last.loss_before
    where = " in the last stage" if len(record.stages) > 1 else ""
    yield (
        f"By the rows' gradients the loss was to change by {last.predicted:+.3g}{where}; on "
        f"validation samples it changed by {true:+.3g}."
    )


def _not_gained(prunable: int) -> Iterator[str]:
    yield (
        "Speed: nothing was timed here. Most runtimes multiply by zeros as by any number; fewer "
        "FLOPs are no speed-up by themselves."
    )
    yield (
        "Size: a dense file holds zeros as it holds any number "
        f"({4 * prunable / 1e6:.2f} MB for these weights in float32); it compresses better."
    )


def _more(record: RunRecord) -> Iterator[str]:
    phases = {phase: s for phase, s in record.seconds.items() if phase not in AROUND and s > 0}
    if phases:
        spent, most = sum(phases.values()), max(phases, key=lambda phase: phases[phase])
        memory = record.peak_rss_mb
        peak = "" if memory is None else f", at most {memory:,.0f} MB of memory"
        share = f"{100 * phases[most] / spent:.0f} % of it for {most}"
        whole = record.seconds.get("total")
        more = "" if whole is None else f"; with loading and evaluation {whole:.1f} s"
        yield f"Pruning took {spent:.1f} s, {share}{more}{peak}."
    if record.gap is not None:
        proven = f"No mask has an objective more than {record.gap:.2%} lower: that is proven."
        loose = "A bound on the objective was proven, too far below to tell anything here."
        yield proven if record.gap < 1 else loose
    raised = [layer.name for layer in record.layers if layer.solved and layer.solved.raised]
    if raised:
        layers = _count(len(raised), "layer")
        yield f"The ridge had to be raised in {layers} ({', '.join(raised[:3])})."
    if record.dropped:
        yield f"Dropped from the checkpoint on loading: {', '.join(record.dropped)}."


def comparison_story(runs: Sequence[Reported]) -> tuple[str, ...]:
    """Return which run is best at each budget, by how much, and whether seeds could explain it."""
    table = make_table([run.line for run in runs])
    if not table.cells:
        return ("Nothing was measured in these runs, so they cannot be compared.",)
    told = list(filter(None, (_best(table, column) for column in table.columns)))
    unmeasured = sum(run.line.get("pruned_metric") is None for run in runs)
    if unmeasured:
        told.append(f"{_count(unmeasured, 'run')} with no measure, in the list alone.")
    return (*told, *list(_not_gained(runs[0].line["prunable"]))[:1])


def _best(table: Table, column: str) -> str | None:
    sign = 1 if more_is_better(table.metric) else -1
    cells = {row: table.cells[row, column] for row in table.rows if (row, column) in table.cells}
    order = sorted(cells, key=lambda row: -sign * cells[row].mean)
    if len(order) < 2:
        return None
    first, second = order[:2]
    ahead = sign * (cells[first].mean - cells[second].mean)
    if not ahead:
        return f"{column}: {first} and {second} are equal, with {_mean(table, cells[first])}."
    points = " points" if is_accuracy(table.metric) else ""
    by = f"{number(table.metric, ahead)}{points} ahead of {second}"
    told = f"{column}: {first} is best with {_mean(table, cells[first])}, {by}"
    return f"{told}; {_clear(cells[first], cells[second])}."


def _mean(table: Table, cell: Cell) -> str:
    spread = "" if cell.spread is None else f" ± {number(table.metric, cell.spread)}"
    return f"{number(table.metric, cell.mean)}{spread}"


def _clear(one: Cell, two: Cell) -> str:
    """Whether the difference of two means is more than seeds make, by Welch's test."""
    if one.spread is None or two.spread is None:
        return "one run each, or of one of them, so chance is not known"
    if not one.spread and not two.spread:
        return "no seed changes either"
    errors = [cell.spread**2 / cell.count for cell in (one, two) if cell.spread is not None]
    freedom = sum(errors) ** 2 / sum(
        error**2 / (cell.count - 1) for error, cell in zip(errors, (one, two), strict=True)
    )
    chance = 2 * float(stdtr(freedom, -abs(one.mean - two.mean) / sum(errors) ** 0.5))
    runs = f"{min(one.count, two.count)} seeds"
    if chance < _RARE:
        return f"seeds alone would rarely do that (p = {chance:.2g}, {runs})"
    return f"seeds could explain it (p = {chance:.2g}, {runs})"


def _count(number_of: int, noun: str) -> str:
    """A number of things, as people say it."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"
