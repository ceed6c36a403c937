"""`chita solvers`: the table of solvers, and the options of each."""

from __future__ import annotations

import inspect
from types import NoneType

from chita.cli.requests import SolversRequest
from chita.options import Described, described
from chita.problem import GradientGram, InputGram
from chita.progress.screen import stdout
from chita.reports.terminal import print_table
from chita.solvers import SOLVERS, Solver
from chita.solvers.named import solver_class, solver_options


def solvers(request: SolversRequest) -> None:
    """Show all solvers, or the options of one."""
    if request.solvers.name is None:
        columns = {"solver": "left", "prunes": "left", "what it does": "fold"}
        kinds = [(name, _prunes(kind), _about(kind)) for name, kind in SOLVERS.items()]
        print_table(stdout, columns, kinds)
        stdout.print("The options of one: chita solvers NAME", highlight=False)
        return
    name = request.solvers.name
    kind = solver_class(name)
    stdout.print(f"{name} prunes {_prunes(kind)}: {_about(kind)}", highlight=False, soft_wrap=True)
    values = solver_options(kind)
    columns = {"option": "left", "value": "left", "default": "left", "about": "fold"}
    rows = [(e.name, _values(e), _default(e, values[e.name]), e.spec.help) for e in described(kind)]
    if rows:
        print_table(stdout, columns, rows)
        stdout.print(f"chita prune --solver {name} --option name=value", highlight=False)
    else:
        stdout.print("It has no options.", highlight=False)


def _about(kind: type[Solver]) -> str:
    """The first sentence about a solver's module, or about a class from elsewhere."""
    source = inspect.getmodule(kind) if kind in SOLVERS.values() else kind
    return (inspect.getdoc(source) or "no description").splitlines()[0]


def _prunes(kind: type[Solver]) -> str:
    """What a solver prunes together."""
    together, layers = kind.takes(GradientGram), kind.takes(InputGram)
    return "all or layers" if together and layers else "layers" if layers else "all"


def _values(entry: Described) -> str:
    """What an option accepts."""
    kinds, spec = entry.kinds, entry.spec
    names = {bool: "true, false", int: "whole number", float: "number", NoneType: "none"}
    names |= {} if spec.choices else {str: "text"}
    words = [name for kind, name in names.items() if kind in kinds]
    if {int, float}.intersection(kinds):
        words[0] = f"{words[0]} {spec.range}".strip()
    return ", ".join([*words, *spec.choices]) or "solver"


def _default(entry: Described, value: object) -> str:
    """What an option is where it is not given."""
    return entry.spec.unset or "none" if value is None else str(value)
