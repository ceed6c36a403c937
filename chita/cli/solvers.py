"""`chita solvers`: the table of solvers, and the options of each."""

from __future__ import annotations

import inspect

from chita.cli.feedback import stdout
from chita.cli.generated import placeholder
from chita.cli.requests import SolversRequest
from chita.options import described
from chita.problem import GradientGram, InputGram
from chita.progress.lines import say
from chita.reports.terminal import print_table
from chita.solvers import BASELINES, SOLVERS, Solver
from chita.solvers.named import solver_class, solver_options


def solvers(request: SolversRequest) -> None:
    """Show all solvers, or the options of one."""
    if request.solvers.name is None:
        columns = {"solver": "left", "prunes": "left", "what it does": "fold"}
        first = {name: kind for name, kind in SOLVERS.items() if name not in BASELINES}
        for title, table in (("Solvers", first), ("Baselines, to compare with", BASELINES)):
            kinds = [(name, _prunes(kind), _about(kind)) for name, kind in table.items()]
            print_table(stdout, columns, kinds, title=title)
        say(stdout, "The options of one: chita solvers NAME")
        return
    name = request.solvers.name
    kind = solver_class(name)
    say(stdout, f"{name} prunes {_prunes(kind)}: {_about(kind)}")
    rows = []
    for entry in described(kind):
        value = solver_options(kind)[entry.name]
        default = entry.spec.unset or "none" if value is None else str(value)
        given = f"{placeholder(entry)} {entry.spec.range}".strip()
        rows.append((entry.name, given, default, entry.spec.help))
    columns = {"option": "left", "value": "left", "default": "left", "about": "fold"}
    if not rows:
        say(stdout, "It has no options.")
        return
    print_table(stdout, columns, rows)
    say(stdout, f"chita prune --solver {name} --option name=value")


def _about(kind: type[Solver]) -> str:
    """Return the first sentence about a solver's module, or about a class from elsewhere."""
    source = inspect.getmodule(kind) if kind in SOLVERS.values() else kind
    return (inspect.getdoc(source) or "no description").splitlines()[0]


def _prunes(kind: type[Solver]) -> str:
    """Return what a solver prunes together."""
    together, layers = kind.takes(GradientGram), kind.takes(InputGram)
    return "all or layers" if together and layers else "layers" if layers else "all"
