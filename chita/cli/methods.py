"""`chita methods`: the table of solvers."""

from __future__ import annotations

import inspect

from rich.table import Table

from chita.cli.console import stdout
from chita.problem import GradientGram, InputGram
from chita.pruning.pose import solver_options
from chita.solvers import SOLVERS, Solver


def methods() -> None:
    """List the pruning methods and their options (set with `--option name=value`)."""
    table = Table()
    for column in ("method", "prunes", "what it does", "options and defaults"):
        table.add_column(column)
    for name, solver in SOLVERS.items():
        module = inspect.getmodule(solver)
        about = (inspect.getdoc(module) or "").splitlines()[0]
        options = ", ".join(f"{key}={value}" for key, value in solver_options(solver).items())
        table.add_row(name, _prunes(solver), about, options)
    stdout.print(table)


def _prunes(solver: type[Solver]) -> str:
    """What a method prunes together."""
    together, layers = solver.takes(GradientGram), solver.takes(InputGram)
    return "all or layers" if together and layers else "layers" if layers else "all"
