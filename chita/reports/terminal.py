"""Runs, plans and measurements as a terminal shows them: tables, and lines below them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chita.metrics import number
from chita.records import BatchNormRecord, RunRecord
from chita.reports import accuracy
from chita.reports.grouped import lines_of
from chita.reports.layer_table import layer_rows, solved, worst_layers
from chita.reports.shade import DARK, Shades
from chita.runtimes.measured import Benchmark, Pair
from chita.sensitivity_record import SensitivityRecord, TensorRecord

LEFT, RIGHT, FOLD = "left", "right", "fold"
_LEAST = 12  # characters of a line of a column that is folded
_RED, _BLUE = (178, 24, 43), (33, 102, 172)  # of a loss that grows, and of one that falls
_FEW = ("standard", "windows")  # terminals of 16 colours, which have no shades

Cells = Sequence[str | Text]


def table_of(
    columns: Mapping[str, str],
    rows: Sequence[Cells],
    *,
    last: Cells | None = None,
    sections: Collection[int] = (),
    title: str | None = None,
    caption: str | None = None,
) -> Table:
    """Return a table whose numbers stay whole: only columns of the kind `FOLD` are folded.

    Args:
        columns: the head of each, and `LEFT`, `RIGHT`, or `FOLD` for long names and sentences.
        rows: their cells.
        last: a row below a line.
        sections: places of rows that have a line below them.
        title: above it, unfolded where there is room.
        caption: below it.
    """
    table = Table(title=title, caption=caption, min_width=cell_len(title or ""))
    every = [*rows, *([last] if last is not None else [])]
    for place, (head, kind) in enumerate(columns.items()):
        widths = [cell_len(str(row[place])) for row in every if place < len(row)]
        widest = max([0, *widths, *map(cell_len, head.splitlines())])
        table.add_column(
            head,
            justify="right" if kind == RIGHT else "left",
            overflow="fold",
            no_wrap=kind != FOLD,
            min_width=min(widest, _LEAST) if kind == FOLD else widest,
        )
    for place, row in enumerate(rows):
        table.add_row(*row, end_section=place in sections)
    if last is not None:
        table.add_section()
        table.add_row(*last)
    return table


def put(console: Console, table: Table) -> None:
    """Print a table. Where the screen has no room for its numbers, its lines are longer."""
    least = sum(column.min_width or 0 for column in table.columns) + 3 * len(table.columns) + 1
    if least > console.width:
        table.width = least
    console.print(table, crop=False)


def print_table(
    console: Console, columns: Mapping[str, str], rows: Sequence[Cells], **fields: Any
) -> None:
    """Print the table that `table_of` makes of these."""
    put(console, table_of(columns, rows, **fields))


def _say(console: Console, lines: Sequence[str]) -> None:
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def show_run(record: RunRecord, console: Console, *, all_layers: bool = False) -> None:
    """Print what came of a run; of many layers those of equal blocks as one line.

    `all_layers` asks for a line of each.
    """
    on = f" on {record.data}" if record.data else ""
    did = {"prune": f"pruned by {record.solver}", "refit": "refitted", "apply": "masked"}
    columns = {"layer": FOLD, "shape": RIGHT, "weights": RIGHT, "kept": RIGHT}
    columns |= {"removed\n%": RIGHT, "dead\noutputs": RIGHT}
    if solved(record):
        columns["error\n%"] = RIGHT
    counts = (f"{record.prunable:,}", f"{record.nnz:,}", f"{100 * record.sparsity:.2f}")
    dead = f"{sum(layer.dead_outputs for layer in record.layers):,}"
    last = ["all", "", *counts, dead, *([""] if solved(record) else [])]
    title = f"{record.model}{on}, {did[record.command]}"
    rows = layer_rows(record, every=all_layers)
    print_table(console, columns, rows, last=last, title=title)
    worst = worst_layers(record, every=all_layers)
    _say(console, [*worst, *_measures(record), *_solution(record), *_course(record)])


def _measures(record: RunRecord) -> list[str]:
    """How good the network is, and what it costs to run."""
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
    return lines


def _solution(record: RunRecord) -> list[str]:
    """What was minimised, and layers that are exceptions."""
    lines = []
    if record.objective is not None:
        posed = f"ridge {record.ridge:.3g}, first-order scale {record.first_order:.3g}"
        if record.stages[-1].fisher_blocks == "outputs":
            posed += ", Fisher by outputs"
        lines.append(f"objective {record.objective:.6g} at {posed}, step size {record.step:.3g}")
    found = [(layer.name, layer.solved) for layer in record.layers if layer.solved is not None]
    lines += [f"left dense: {name}, which {s.left}" for name, s in found if s.left is not None]
    raised = [f"{name} ({s.ridge:.3g})" for name, s in found if s.raised]
    return lines + ([f"ridge raised: {', '.join(raised)}"] if raised else [])


def _course(record: RunRecord) -> list[str]:
    """How the run went: stages, epochs, batch norms, seconds."""
    lines = []
    if len(record.stages) > 1:
        stages, last = f"{len(record.stages)} stages", record.stages[-1].held_out_loss
        if last is not None:
            first = record.stages[0].held_out_loss
            stages += f", validation loss {first:.4g} to {last:.4g}"
        lines.append(stages)
    if record.training is not None:
        epochs, stopped = record.training.epochs, record.training.stopped
        trained = "1 epoch" if len(epochs) == 1 else f"{len(epochs)} epochs"
        if epochs:
            trained += f", training loss {epochs[0].loss:.4g} to {epochs[-1].loss:.4g}"
        lines += [trained, *([f"training stopped: {stopped}"] if stopped else [])]
    if record.batch_norm is not None:
        lines.append(_batch_norm(record.batch_norm))
    if record.gap is not None:
        lines.append(
            f"no mask has an objective below {record.lower_bound:.6g}: gap {record.gap:.2%}"
        )
    return [*lines, _seconds(record.seconds)]


def _batch_norm(done: BatchNormRecord) -> str:
    estimated = f"{done.layers} batch norms estimated again from {done.samples:,} samples"
    if not done.taken:
        estimated += ", and not taken"
    if done.loss_before is None or done.loss_after is None:
        return estimated
    return (
        f"{estimated}: validation loss {done.loss_before:.4g} before, {done.loss_after:.4g} after"
    )


def _seconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def show_plan(
    name: str, plan: Mapping[str, Any], console: Console, *, all_layers: bool = False
) -> None:
    """Print a plan (`chita.plan`), given as plain data; `all_layers` as in `show_run`."""
    layerwise = plan["layerwise"]
    size = "Gram, MB" if layerwise else "rows, MB"
    columns = {"tensor": FOLD, "shape": RIGHT, "weights": RIGHT, "pruned": LEFT}
    columns |= {"by the rule": FOLD, size.replace(", ", ",\n"): RIGHT}
    tensors = plan["tensors"]
    alike = [tuple(t[key] for key in ("shape", "pruned", "rule", "bytes")) for t in tensors]
    rows = []
    for line in lines_of([t["name"] for t in tensors], alike, every=all_layers):
        tensor, count = tensors[line.members[0]], len(line.members)
        size = f"{count * tensor['bytes'] / 1e6:,.1f}" if tensor["pruned"] else ""
        weights = f"{count * tensor['weights']:,}"
        pruned = "yes" if tensor["pruned"] else "no"
        rows.append([line.label, _shape(tensor["shape"]), weights, pruned, tensor["rule"], size])
    print_table(console, columns, rows, title=f"{name}: what would be pruned")
    most = "at most " if plan["limits"] else ""
    kept = "" if plan["kept"] is None else f", of which {most}{plan['kept']:,} would be kept"
    free = plan["free_bytes"]
    available = "" if free is None else f" of {free / 1e6:,.0f} MB available"
    stored = f"{plan['row_bytes'] / 1e6:,.1f} MB"
    if layerwise:
        stored = f"Gram matrices of a block {stored}"
    lines = [
        f"{plan['prunable']:,} weights would compete{kept}",
        *map(_limit, plan["limits"]),
        f"{plan['rows']:,} {'samples' if layerwise else 'rows'}: {stored}",
        f"predicted peak memory {plan['peak_bytes'] / 1e6:,.0f} MB{available}",
        f"predicted time: {_predicted(plan)}",
    ]
    _say(console, lines)


def _predicted(plan: Mapping[str, Any]) -> str:
    collect, train = plan["collect_seconds"], plan["train_seconds"]
    seen = "inputs" if plan["layerwise"] else "rows"
    collecting = "unknown without a sample" if collect is None else f"about {collect:.1f} s"
    times = f"{seen} {collecting}, solve about {plan['solve_seconds']:.1f} s"
    if train == 0:
        return times
    return f"{times}, training " + (
        "unknown without samples" if train is None else f"about {train:.0f} s"
    )


def _limit(limit: Mapping[str, Any]) -> str:
    share = 100 * limit["used"] / limit["whole"]
    binds = "binds" if limit["binds"] else "does not bind"
    return (
        f"{limit['of']}: {limit['used']:,} of {limit['allowed']:,} allowed would be used by the "
        f"largest weights, {share:.2f} % of {limit['whole']:,}: this {binds}"
    )


def show_export(found: Mapping[str, Any], console: Console) -> None:
    """Print what a file was found to hold (`chita.Exported`, given as plain data)."""
    share = found["bytes"] / max(found["dense_bytes"], 1)
    compared = "tensors as they were"
    if found["difference"] is not None:
        compared = f"outputs differ by {found['difference']:.2g} of a value at most"
    lines = [
        f"{found['kind']}: {', '.join(map(str, found['files']))}",
        f"{found['bytes'] / 1e6:,.3f} MB, {share:.3f} of the dense tensors",
        f"read again: {found['nnz']:,} of {found['prunable']:,} weights not zero, {compared}",
    ]
    _say(console, [*lines, *found["notes"]])


def show_sensitivity(
    record: SensitivityRecord, console: Console, *, all_layers: bool = False
) -> None:
    """Print by how much the loss grows with each tensor, its numbers on the colour of a shade.

    Of equal blocks in one line the largest growth; `all_layers` as in `show_run`.
    """
    on = f" on {record.data}" if record.data else ""
    columns = {"tensor": FOLD, "weights": RIGHT}
    columns |= {f"{sparsity:g}": RIGHT for sparsity in record.sparsities}
    known = {(level.tensor, level.sparsity): level.loss for level in record.levels}
    scale = Shades.of(level.loss for level in record.levels)
    plain = console.color_system in _FEW
    rows: list[Cells] = []
    names = [tensor.name for tensor in record.tensors]
    for line in lines_of(names, [t.shape for t in record.tensors], every=all_layers):
        own = [record.tensors[i] for i in line.members]
        losses = [_largest(known, own, sparsity) for sparsity in record.sparsities]
        cells = [_cell(loss, scale, plain=plain) for loss in losses]
        rows.append([line.label, f"{sum(tensor.weights for tensor in own):,}", *cells])
    title = f"{record.model}{on}: growth of the loss with one tensor pruned"
    print_table(console, columns, rows, title=title)
    samples = f"{record.held_out:,} validation samples"
    lines = [f"{record.loss} of the dense network {record.dense_loss:.4g} on {samples}"]
    if len(known) < len(record.tensors) * (1 + len(record.sparsities)):
        lines.append("?: no system could be solved there, or the loss was not finite")
    _say(console, [*lines, _seconds(record.seconds)])


def _largest(
    known: Mapping[tuple[str, float], float], tensors: Sequence[TensorRecord], sparsity: float
) -> float | None:
    """The largest growth of some tensors at a sparsity, None where one is not known."""
    losses = [known.get((tensor.name, sparsity)) for tensor in tensors]
    return None if None in losses else max(loss for loss in losses if loss is not None)


def _cell(loss: float | None, scale: Shades, *, plain: bool) -> Text:
    """A number on the colour of its shade, which a file does not show."""
    if loss is None:
        return Text("?")
    return Text(f"{loss:+.2g}" if loss else "0", style=_style(scale.shade(loss), plain=plain))


def _style(shade: float, *, plain: bool) -> str:
    dark = abs(shade) > DARK
    if plain:
        return ("bold " if dark else "") + ("red" if shade > 0 else "blue")
    full = _RED if shade > 0 else _BLUE
    red, green, blue = (round(255 + abs(shade) * (c - 255)) for c in full)
    return f"{'white' if dark else 'black'} on rgb({red},{green},{blue})"


def show_benchmark(found: Benchmark, console: Console) -> None:
    """Print what was measured in every runtime, of every layer and of every file."""
    shapes = ", ".join(map(_shape, found.shapes.values()))
    title = f"{found.model} on {shapes}, median milliseconds of a call"
    print_table(console, _WHOLE, [_times(r.name, r.pair) for r in found.runtimes], title=title)
    if found.layers:
        _show_layers(found, console)
    rows = []
    for size in found.sizes:
        counts = (size.dense, size.pruned, size.dense_zstd, size.pruned_zstd)
        rows.append([size.name, *("" if n is None else f"{n / 1e6:,.3f}" for n in counts)])
    print_table(console, _FILES, rows, title="files, millions of bytes; zstd: compressed")
    loads = " and ".join("unknown" if load is None else f"{load:.2f}" for load in found.load)
    last = f"{found.processor}, one thread; load before and after: {loads}"
    _say(console, [*found.sentences, last])


_WHOLE = {
    "runtime": LEFT,
    **{"dense": RIGHT, "pruned": RIGHT, "dense / pruned": RIGHT, "quartiles of pruned": RIGHT},
}
_FILES = {
    "file": LEFT,
    **{"dense": RIGHT, "pruned": RIGHT, "dense, zstd": RIGHT, "pruned, zstd": RIGHT},
}


def _show_layers(found: Benchmark, console: Console) -> None:
    measured = [runtime for runtime in found.runtimes if runtime.layers]
    columns = {"layer": FOLD, "shape": RIGHT, "zeros\n%": RIGHT}
    columns |= {runtime.name: RIGHT for runtime in measured}
    rows = []
    for layer in found.layers:
        ratios = [runtime.layers.get(layer.name) for runtime in measured]
        speeds = ["" if pair is None else f"{pair.speedup:.2f}" for pair in ratios]
        rows.append([layer.name, _shape(layer.shape), f"{layer.zeros:.2f}", *speeds])
    print_table(console, columns, rows, title="every layer by itself, dense / pruned")


def _times(name: str, pair: Pair | None) -> list[str]:
    if pair is None:
        return [name, "", "", "", ""]
    quartiles = f"{_ms(pair.pruned.low)} to {_ms(pair.pruned.high)}"
    return [name, _ms(pair.dense.median), _ms(pair.pruned.median), f"{pair.speedup:.2f}", quartiles]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def sweep_table(found: accuracy.Table, caption: str | None = None) -> Table:
    """Return the table of a sweep, as it grows."""
    names = {column.split()[0] for column in found.columns}
    columns = {names.pop() if len(names) == 1 else "": LEFT}
    columns |= {column.split()[-1]: RIGHT for column in found.columns}
    rows = []
    for row in found.rows:
        cells = (found.cells.get((row, column)) for column in found.columns)
        rows.append([row, *("" if cell is None else str(cell) for cell in cells)])
    return table_of(columns, rows, title=found.metric, caption=caption)


def print_sweep(found: accuracy.Table, console: Console) -> None:
    """Print the table of a sweep, if any run is in it."""
    if found.rows:
        put(console, sweep_table(found))
