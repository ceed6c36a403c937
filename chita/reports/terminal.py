"""Runs, plans and measurements on a terminal: tables, and lines below them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chita.metrics import measured_on, number
from chita.progress.lines import say
from chita.records import RunRecord, TensorRecord
from chita.reports import accuracy
from chita.reports.facts import facts_of, seconds_of
from chita.reports.layer_ranges import layer_ranges
from chita.reports.layer_table import layer_table, worst_layers
from chita.reports.shade import DARK, Shades
from chita.runtimes.measured import Benchmark, Pair
from chita.sensitivity_record import SensitivityRecord

LEFT, RIGHT, FOLD = "left", "right", "fold"
_LEAST = 12  # characters of a line of a column that is folded
_RED, _BLUE = (178, 24, 43), (33, 102, 172)  # of a loss that grows, and of one that falls
_FEW = ("standard", "windows")  # terminals of 16 colours, which have no shades


def print_table(
    console: Console,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str | Text]],
    *,
    sections: Collection[int] = (),
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Print a table whose numbers stay whole: only columns of the kind `FOLD` are folded.

    Where the screen has no room for its numbers, its lines are longer.

    Args:
        console: where it is printed.
        columns: the head of each, and `LEFT`, `RIGHT`, or `FOLD` for long names and sentences.
        rows: their cells.
        sections: places of rows that have a line below them.
        title: above it, unfolded if there is room.
        caption: below it.
    """
    table = Table(title=title, caption=caption, min_width=cell_len(title or ""))
    for place, (head, kind) in enumerate(columns.items()):
        widths = [cell_len(str(row[place])) for row in rows]
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
    least = sum(column.min_width or 0 for column in table.columns) + 3 * len(table.columns) + 1
    if least > console.width:
        table.width = least
    console.print(table, crop=False)


def show_run(record: RunRecord, console: Console, *, all_layers: bool = False) -> None:
    """Print the result of a run; of many layers those of equal blocks in one row.

    `all_layers` asks for a row of each.
    """
    on = f" on {record.data}" if record.data else ""
    did = {"prune": f"pruned by {record.solver}", "refit": "refitted", "apply": "masked"}
    head, rows = layer_table(record, every=all_layers)
    columns = {**dict.fromkeys(head, RIGHT), "layer": FOLD}
    counts = (f"{record.prunable:,}", f"{record.nnz:,}", f"{100 * record.sparsity:.2f}")
    dead = f"{sum(layer.dead_outputs for layer in record.layers):,}"
    last = ["all", "", *counts, dead, *[""] * (len(head) - 6)]
    title = f"{record.model}{on}, {did[record.command]}"
    print_table(console, columns, [*rows, last], sections=[len(rows) - 1], title=title)
    worst = worst_layers(record, every=all_layers)
    say(console, "\n".join([*worst, *_measures(record), *facts_of(record)]))


def _measures(record: RunRecord) -> list[str]:
    """The measures of the network, and the cost of a sample."""
    lines = []
    if record.metric and record.dense_metric is not None and record.pruned_metric is not None:
        dense = number(record.metric, record.dense_metric)
        pruned = number(record.metric, record.pruned_metric)
        on = measured_on(record.metric, record.evaluated, record.evaluated_of)
        lines.append(f"{record.metric}: {dense} dense, {pruned} pruned{on}")
    elif record.settings.get("evaluate") == 0:
        lines.append("nothing was measured, as --evaluate 0 asks")
    if record.neighbours is not None:
        lines.append(f"the same nearest neighbour: {record.neighbours:.2f} % of samples")
    if record.flops is not None and record.dense_flops:
        share = 100 * record.flops / record.dense_flops
        lines.append(
            f"FLOPs of a sample: {record.flops:,} of {record.dense_flops:,}, {share:.2f} %"
        )
    return lines


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def show_plan(
    name: str, plan: Mapping[str, Any], console: Console, *, all_layers: bool = False
) -> None:
    """Print a plan (`chita.plan`), given as plain data; `all_layers` as in `show_run`."""
    layerwise = plan["layerwise"]
    columns = {"tensor": FOLD, "shape": RIGHT, "weights": RIGHT, "pruned": LEFT}
    columns |= {"by the rule": FOLD, "Gram,\nMB" if layerwise else "gradients,\nMB": RIGHT}
    tensors = plan["tensors"]
    alike = [tuple(t[key] for key in ("shape", "pruned", "rule", "bytes")) for t in tensors]
    rows = []
    for own in layer_ranges([t["name"] for t in tensors], alike, every=all_layers):
        tensor, count = tensors[own.members[0]], len(own.members)
        size = f"{count * tensor['bytes'] / 1e6:,.1f}" if tensor["pruned"] else ""
        weights = f"{count * tensor['weights']:,}"
        pruned = "yes" if tensor["pruned"] else "no"
        rows.append([own.label, _shape(tensor["shape"]), weights, pruned, tensor["rule"], size])
    print_table(console, columns, rows, title=f"{name}: what would be pruned")
    most = "at most " if plan["limits"] else ""
    kept = "" if plan["kept"] is None else f", of which {most}{plan['kept']:,} would be kept"
    free = plan["free_bytes"]
    available = "" if free is None else f" of {free / 1e6:,.0f} MB available"
    stored = f"{plan['gradient_bytes'] / 1e6:,.1f} MB"
    if layerwise:
        stored = f"Gram matrices of a block {stored}"
    lines = [
        f"{plan['prunable']:,} weights would compete{kept}",
        *map(_limit, plan["limits"]),
        f"{plan['samples']:,} {'samples' if layerwise else 'gradients'}: {stored}",
        f"predicted peak memory {plan['peak_bytes'] / 1e6:,.0f} MB{available}",
        f"predicted time: {_predicted(plan)}",
    ]
    short = free is not None and plan["peak_bytes"] > free
    if short and plan["by_layers"] and plan["samples"] and not layerwise:
        lines.append(
            "That is more than there is. Layer by layer it takes the memory of one block: "
            "--solver alps, sparsegpt or wanda. Or lower --samples."
        )
    say(console, "\n".join(lines))


def _predicted(plan: Mapping[str, Any]) -> str:
    seen = "inputs" if plan["layerwise"] else "gradients"
    times = {seen: plan["collect_seconds"], "solve": plan["solve_seconds"]}
    for name, field in (("training", "train_seconds"), ("evaluation", "evaluate_seconds")):
        times |= {name: plan[field]} if plan[field] != 0 else {}
    return ", ".join(
        f"{name} {'unknown without samples' if time is None else f'about {time:.1f} s'}"
        for name, time in times.items()
    )


def _limit(limit: Mapping[str, Any]) -> str:
    share = 100 * limit["used"] / limit["whole"]
    binds = "binds" if limit["binds"] else "does not bind"
    return (
        f"{limit['of']}: {limit['used']:,} of {limit['allowed']:,} allowed would be used by the "
        f"largest weights, {share:.2f} % of {limit['whole']:,}: this {binds}"
    )


def show_export(found: Mapping[str, Any], console: Console) -> None:
    """Print the content of a file as it was found (`chita.Exported`, given as plain data)."""
    share = found["bytes"] / max(found["dense_bytes"], 1)
    compared = "tensors as they were"
    if found["difference"] is not None:
        compared = f"outputs differ by {found['difference']:.2g} of a value at most"
    lines = [
        f"{found['kind']}: {', '.join(map(str, found['files']))}",
        f"{found['bytes'] / 1e6:,.3f} MB, {share:.3f} of the dense tensors",
        f"read again: {found['nnz']:,} of {found['prunable']:,} weights not zero, {compared}",
    ]
    say(console, "\n".join([*lines, *found["notes"]]))


def show_sensitivity(
    record: SensitivityRecord, console: Console, *, all_layers: bool = False
) -> None:
    """Print the growth of the loss with each tensor, its numbers on the colour of a shade.

    Of equal blocks in one row the largest growth; `all_layers` as in `show_run`.
    """
    on = f" on {record.data}" if record.data else ""
    columns = {"tensor": FOLD, "weights": RIGHT}
    columns |= {f"{sparsity:g}": RIGHT for sparsity in record.sparsities}
    known = {(level.tensor, level.sparsity): level.loss for level in record.levels}
    scale = Shades.of(level.loss for level in record.levels)
    plain = console.color_system in _FEW
    rows: list[Sequence[str | Text]] = []
    names = [tensor.name for tensor in record.tensors]
    for alike in layer_ranges(names, [t.shape for t in record.tensors], every=all_layers):
        own = [record.tensors[i] for i in alike.members]
        losses = [_largest(known, own, sparsity) for sparsity in record.sparsities]
        cells = [_cell(loss, scale, plain=plain) for loss in losses]
        rows.append([alike.label, f"{sum(tensor.weights for tensor in own):,}", *cells])
    title = f"{record.model}{on}: growth of the loss with one tensor pruned"
    print_table(console, columns, rows, title=title)
    samples = f"{record.validation:,} validation samples"
    lines = [f"{record.loss} of the dense network {record.dense_loss:.4g} on {samples}"]
    if len(known) < len(record.tensors) * (1 + len(record.sparsities)):
        lines.append("?: no system could be solved there, or the loss was not finite")
    say(console, "\n".join([*lines, seconds_of(record.seconds)]))


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
    """Print the measurements of every runtime, of every layer and of every file."""
    shapes = ", ".join(map(_shape, found.shapes.values()))
    title = f"{found.model} on {shapes}, median milliseconds of a call"
    columns = {"runtime": LEFT, **dict.fromkeys(_TIMES, RIGHT)}
    print_table(console, columns, [_times(r.name, r.pair) for r in found.runtimes], title=title)
    if found.layers:
        _show_layers(found, console)
    rows = []
    for size in found.sizes:
        counts = (size.dense, size.pruned, size.dense_zstd, size.pruned_zstd)
        rows.append([size.name, *("" if n is None else f"{n / 1e6:,.3f}" for n in counts)])
    columns = {"file": LEFT, **dict.fromkeys(_SIZES, RIGHT)}
    print_table(console, columns, rows, title="files, millions of bytes; zstd: compressed")
    loads = " and ".join("unknown" if load is None else f"{load:.2f}" for load in found.load)
    last = f"{found.processor}, one thread; load before and after: {loads}"
    say(console, "\n".join([*found.sentences, last]))


_TIMES = ("dense", "pruned", "dense / pruned", "quartiles of pruned")
_SIZES = ("dense", "pruned", "dense, zstd", "pruned, zstd")


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


def print_sweep(
    found: accuracy.Table,
    console: Console,
    before: accuracy.Table | None = None,
    source: str = "",
) -> None:
    """Print the table of a sweep, if any run is in it; or by how much it differs from one before.

    `source` says where that one stands.
    """
    if not found.rows:
        return
    names = {column.split()[0] for column in found.columns}
    columns = {names.pop() if len(names) == 1 else "": LEFT}
    columns |= {column.split()[-1]: RIGHT for column in found.columns}
    texts = {place: found.text(cell) for place, cell in found.cells.items()}
    title = f"{found.metric}{found.on}"
    if before is not None:
        texts = {place: found.difference(place, before) for place in found.cells}
        title += f": difference from {source} (± its spread over seeds)"
    print_table(console, columns, found.texts(texts), title=title)
