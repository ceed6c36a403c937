"""Measures of many runs by what was varied: means over seeds, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from chita.errors import InputError
from chita.metrics import measured_on, number

RunLine = Mapping[str, Any]
"""One run: `run`, name to value of what was varied, and the fields of `chita prune --json`."""

COLUMNS = ("flops", "pattern", "sparsity", "nnz", "megabytes", "max_loss")
"""Budgets that name columns: the first one given does."""

AGAINST = ("budget", "flops")
_NEIGHBOURS = "Samples whose nearest neighbour is the same before and after, per cent, mean:"
_MEMORY = "Peak memory of a run's process, MB, mean; PyTorch, data and network are in it:"
_REMOVED = "Share of weights removed, mean:"
AROUND = (
    "load",
    "open",
    "evaluate",
    "checkpoint",
    "other",
    "total",
)  # what is not pruning by itself


def pruning_seconds(line: RunLine) -> float:
    """Return the seconds of a run's phases, loading and evaluation left out."""
    return float(sum(took for phase, took in line["seconds"].items() if phase not in AROUND))


def flops_share(line: RunLine) -> float | None:
    """Return the share of the dense network's FLOPs that is left, None where it is not known."""
    if line.get("flops") is None or not line.get("dense_flops"):
        return None
    return float(line["flops"] / line["dense_flops"])


def part_of(line: RunLine) -> str:
    """Return on which part of the samples a run was measured, nothing where on all."""
    return measured_on(line.get("metric") or "", line.get("evaluated"), line.get("evaluated_of"))


def dense_level(lines: Iterable[RunLine]) -> tuple[float, str] | None:
    """Return the measure of the dense network, if a run has it, as a chart marks it."""
    known = (line.get("dense_metric") for line in lines)
    return next(((value, "dense") for value in known if value is not None), None)


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """A measure over `count` seeds: its `mean`, its standard deviation `spread`, and `seconds`.

    `spread` is None of a single one; `seconds` is the mean time of pruning; `removed`, the mean
    share of weights removed; `memory`, the mean peak of a run's process in MB, and `neighbours`,
    the mean agreement of nearest neighbours in per cent, None where these are not known.
    """

    mean: float
    spread: float | None
    seconds: float
    removed: float
    memory: float | None
    neighbours: float | None
    count: int


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """Runs in rows and columns.

    Fields: `metric`; `on`, on which part of the samples it was measured, in words; `against`, what
    the columns are: budgets, or shares of FLOPs that are left, to two decimals; `columns`; `rows`,
    what else was varied; `cells`, by row and column, where there are runs.
    """

    metric: str
    on: str
    against: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def of_row(self, row: str) -> dict[str, Cell]:
        """Return the cells of a row by their columns, where there are runs."""
        return {c: self.cells[row, c] for c in self.columns if (row, c) in self.cells}

    def texts(self, cells: Mapping[tuple[str, str], str]) -> list[list[str]]:
        """Return the rows of a table of texts, each after its name."""
        return [[row, *(cells.get((row, c), "") for c in self.columns)] for row in self.rows]

    def text(self, cell: Cell) -> str:
        """Return the mean of a cell with its spread."""
        spread = "" if cell.spread is None else f" ± {number(self.metric, cell.spread)}"
        return f"{number(self.metric, cell.mean)}{spread}"

    def difference(self, place: tuple[str, str], before: Table) -> str:
        """Return by how much a cell differs from that of an earlier table, with the spread there.

        That is "new" where the other table lacks it.
        """
        cell, then = self.cells[place], before.cells.get(place)
        if then is None:
            return "new"
        change = cell.mean - then.mean
        sign = "-" if change < 0 else "+"
        spread = "" if then.spread is None else f" (± {number(self.metric, then.spread)})"
        return f"{sign}{number(self.metric, abs(change))}{spread}"


def make_table(lines: Sequence[RunLine], against: str = "budget") -> Table:
    """Return the table of runs: a column for each budget, a row for all else but the seed.

    Against "flops", a column for each share of FLOPs that is left, and the kind of budget in the
    row. Runs that failed, or of which this was not measured, are left out.

    Raises `InputError` on anything else to set the measure against.
    """
    if against not in AGAINST:
        raise InputError(f"`against` is {against!r}; give one of {', '.join(AGAINST)}.")
    by_flops = against == "flops"
    groups: dict[tuple[str, str], list[RunLine]] = {}
    for line in lines:
        share = flops_share(line)
        if line.get("pruned_metric") is None or (by_flops and share is None):
            continue
        row, column = row_of(line["run"]), column_of(line)
        if by_flops:
            row, column = f"{row}, {' and '.join(budgets_of(line))}", f"flops {share:.2f}"
        groups.setdefault((row, column), []).append(line)
    columns = dict.fromkeys(column for _, column in groups)
    first = next((line for found in groups.values() for line in found), {"metric": ""})
    return Table(
        metric=first["metric"],
        on=part_of(first),
        against=against,
        columns=tuple(sorted(columns, key=order_of)),
        rows=tuple(dict.fromkeys(row for row, _ in groups)),
        cells={place: _cell(found) for place, found in groups.items()},
    )


def as_markdown(table: Table) -> str:
    """Return a table of means, one of seconds, and others where there are such, in Markdown.

    These are peak memory and the agreement of nearest neighbours, where they are known of every
    run, and against FLOPs the sparsities.
    """
    texts = {place: _texts(table, cell) for place, cell in table.cells.items()}
    parts = []
    for title in next(iter(texts.values()), {}):
        cells = {place: text for place, own in texts.items() if (text := own[title]) is not None}
        if len(cells) == len(texts):
            parts += [title, _grid(table, cells)]
    return "\n\n".join(parts) + "\n"


def _texts(table: Table, cell: Cell) -> dict[str, str | None]:
    """Return the texts of a cell by the titles of their tables, None where they are not known."""
    near, memory = cell.neighbours, cell.memory
    return {
        f"{table.metric}{table.on}, mean ± standard deviation over seeds:": table.text(cell),
        _NEIGHBOURS: None if near is None else f"{near:.1f}",
        "Seconds of a run, loading and evaluation left out, mean:": f"{cell.seconds:.1f}",
        _MEMORY: None if memory is None else f"{memory:.0f}",
        _REMOVED: f"{cell.removed:.3f}" if table.against == "flops" else None,
    }


def _grid(table: Table, cells: Mapping[tuple[str, str], str]) -> str:
    lines = [["", *table.columns], ["---"] * (1 + len(table.columns)), *table.texts(cells)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def row_of(run: Mapping[str, Any]) -> str:
    """Return the row of a run: what was varied but its budget and seed."""
    varied = {k: v for k, v in run.items() if k not in (*COLUMNS, "seed")}
    words = [str(varied.pop(name)) for name in ("solver", "name") if name in varied]
    varied |= varied.pop("options", {})
    return ", ".join([*words, *(f"{name} {value}" for name, value in varied.items())]) or "all"


def budgets_of(line: RunLine) -> dict[str, Any]:
    """Return the budgets of a run by name, whether they were varied or the same in all runs."""
    given = {**line["settings"], **line["run"]}
    return {name: given[name] for name in COLUMNS if given.get(name) is not None}


def column_of(line: RunLine) -> str:
    """Return the first budget of a run.

    The share removed where it had none of its own: a mask that was given, sparsities by tensor.
    """
    asked = [f"{name} {value}" for name, value in budgets_of(line).items()]
    return asked[0] if asked else f"removed {line['sparsity']:.4f}"


def order_of(column: str) -> tuple[float, ...]:
    """Return where a budget stands among others, such as 0.5 or 2:4."""
    return tuple(map(float, column.rsplit(maxsplit=1)[-1].split(":")))


def _cell(lines: Sequence[RunLine]) -> Cell:
    values = [float(line["pruned_metric"]) for line in lines]
    seconds = list(map(pruning_seconds, lines))
    return Cell(
        memory=_mean_of("peak_rss_mb", lines),
        neighbours=_mean_of("neighbours", lines),
        mean=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        seconds=statistics.fmean(seconds),
        removed=statistics.fmean(line["sparsity"] for line in lines),
        count=len(values),
    )


def _mean_of(field: str, lines: Sequence[RunLine]) -> float | None:
    """The mean of a field, None unless every line has it."""
    values = [line[field] for line in lines if line.get(field) is not None]
    return statistics.fmean(values) if len(values) == len(lines) else None
