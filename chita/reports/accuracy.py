"""Measures of many runs by what was varied: means over seeds, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from chita.errors import InputError

Line = Mapping[str, Any]
"""One run: `run`, name to value of what was varied, and the fields of `chita prune --json`."""

COLUMNS = ("flops", "pattern", "sparsity", "nnz", "megabytes")
"""Budgets that name columns: the first one given does."""

AGAINST = ("budget", "flops")
AROUND = ("evaluate", "total")  # what is not pruning, and what is no phase


def pruning_seconds(line: Line) -> float:
    """Return the seconds of a run's phases, loading and evaluation left out."""
    return float(sum(took for phase, took in line["seconds"].items() if phase not in AROUND))


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

    def __str__(self) -> str:
        digits = 4 if abs(self.mean) <= 1 else 2
        spread = "" if self.spread is None else f" ± {self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """Runs in rows and columns.

    Fields: `metric`; `against`, what the columns are: budgets, or shares of FLOPs that are left, to
    two decimals; `columns`; `rows`, what else was varied; `cells`, by row and column, where there
    are runs.
    """

    metric: str
    against: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]


def make_table(lines: Sequence[Line], against: str = "budget") -> Table:
    """Return the table of runs: a column for each budget, a row for all else but the seed.

    Against "flops", a column for each share of FLOPs that is left, and the kind of budget in the
    row. Runs that failed, or of which this was not measured, are left out.

    Raises `InputError` on anything else to set the measure against.
    """
    if against not in AGAINST:
        raise InputError(f"`against` is {against!r}; give one of {', '.join(AGAINST)}.")
    by_flops = against == "flops"
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.get("pruned_metric") is None or (by_flops and line.get("flops") is None):
            continue
        row = row_of(line["run"])
        if by_flops:
            row, column = f"{row}, {_kind(line)}", f"flops {_share(line):.2f}"
        else:
            column = column_of(line)
        groups.setdefault((row, column), []).append(line)
    columns = dict.fromkeys(column for _, column in groups)
    return Table(
        metric=next((line["metric"] for found in groups.values() for line in found), ""),
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
    parts = [f"{table.metric}, mean ± standard deviation over seeds:", _grid(table, str)]
    if table.cells and all(cell.neighbours is not None for cell in table.cells.values()):
        parts += ["Samples whose nearest neighbour is the same before and after, per cent, mean:"]
        parts += [_grid(table, lambda cell: f"{cell.neighbours:.1f}")]
    parts += ["Seconds of a run, loading and evaluation left out, mean:"]
    parts += [_grid(table, lambda cell: f"{cell.seconds:.1f}")]
    if table.cells and all(cell.memory is not None for cell in table.cells.values()):
        parts += ["Peak memory of a run's process, MB, mean; PyTorch, data and network are in it:"]
        parts += [_grid(table, lambda cell: f"{cell.memory:.0f}")]
    if table.against == "flops":
        parts += ["Share of weights removed, mean:"]
        parts += [_grid(table, lambda cell: f"{cell.removed:.3f}")]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table, shown: Any) -> str:
    lines = [["", *table.columns], ["---"] * (1 + len(table.columns))]
    for row in table.rows:
        found = (table.cells.get((row, column)) for column in table.columns)
        lines.append([
            row.replace("|", "\\|"),
            *("" if cell is None else shown(cell) for cell in found),
        ])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def row_of(run: Mapping[str, Any]) -> str:
    """Return the row of a run: what was varied but its budget and seed."""
    varied = {k: v for k, v in run.items() if k not in (*COLUMNS, "seed")}
    words = [str(varied.pop(name)) for name in ("solver", "name") if name in varied]
    varied |= varied.pop("options", {})
    return ", ".join([*words, *(f"{name} {value}" for name, value in varied.items())]) or "all"


def column_of(line: Line) -> str:
    """Return the budget of a run, whether it was varied or the same in all runs.

    The share removed where it had none of its own: a mask that was given, sparsities by tensor.
    """
    given = {**line["settings"], **line["run"]}
    asked = (f"{name} {given[name]}" for name in COLUMNS if given.get(name) is not None)
    return next(asked, None) or f"removed {line['sparsity']:.4f}"


def _kind(line: Line) -> str:
    """Which words its budget was given in."""
    given = {**line["settings"], **line["run"]}
    return " and ".join(name for name in COLUMNS if given.get(name) is not None)


def _share(line: Line) -> float:
    return float(line["flops"] / line["dense_flops"])


def order_of(column: str) -> tuple[float, ...]:
    """Return where a budget stands among others, such as 0.5 or 2:4."""
    return tuple(map(float, column.rsplit(maxsplit=1)[-1].split(":")))


def _cell(lines: Sequence[Line]) -> Cell:
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


def _mean_of(field: str, lines: Sequence[Line]) -> float | None:
    """The mean of a field, None unless every line has it."""
    values = [line[field] for line in lines if line.get(field) is not None]
    return statistics.fmean(values) if len(values) == len(lines) else None
