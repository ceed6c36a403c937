"""Solvers by their names and options, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from inspect import isabstract
from typing import Any

from chita.errors import InputError
from chita.imports import imported, is_import
from chita.naming import nearest
from chita.options import Described, described
from chita.solvers import SOLVERS
from chita.solvers.solver import Solver

SolverLike = str | Solver
"""A name (`chita solvers` lists them), a "package.module:Class" of your own, or a solver."""


def make_solver(
    solver: SolverLike, options: Mapping[str, Any] | None = None, seed: int = 0
) -> Solver:
    """Return the solver of a name, with its fields set from `options`; a solver as it is.

    A field `seed` that `options` leave out takes the seed of the run.

    Raises `InputError` on an unknown name or field, or a value that the field does not take.

    >>> make_solver("iht", {"max_iterations": "7"}).max_iterations
    7
    """
    if isinstance(solver, Solver):
        return solver
    kind = solver_class(solver)
    known = {entry.name: entry for entry in described(kind)}
    names = [f.name for f in fields(kind)]
    values: dict[str, Any] = {"seed": seed} if "seed" in names else {}
    problems = []
    for name, value in (options or {}).items():
        if name not in names:
            problems.append(f"There is no option {name!r}. {nearest(name, names)}")
        else:
            values[name] = _read(known[name], value, seed) if name in known else value
    missing = [f.name for f in fields(kind) if _required(f) and f.name not in values]
    problems += [f"{name} is missing; give {name}=..." for name in missing]
    if not problems:
        try:
            return kind(**values)
        except InputError as error:  # its names are not those of the command line's own options
            problems.append(str(error).replace("`", ""))
    raise InputError(f"Options of {solver}: {' '.join(problems)}")


def solver_class(name: str) -> type[Solver]:
    """Return the class of a solver by its name in the table, or by "package.module:Class".

    Raises `InputError` for an unknown name, and for what is no solver.
    """
    if not isinstance(name, str):
        raise InputError(
            f"`solver` is {name!r}; give a name ({', '.join(SOLVERS)}), a solver such as "
            'chita.solvers.CHITA(), or the text "package.module:Class".'
        )
    if name in SOLVERS:
        return SOLVERS[name]
    if not is_import(name):
        raise InputError(
            f"Unknown solver {name!r}. {nearest(name, SOLVERS)} Or name your own class as "
            "package.module:Class."
        )
    found = imported(name)
    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise InputError(f"{name} is no subclass of chita.solvers.Solver. Derive it from that.")
    if isabstract(found):
        raise InputError(f"{name} is abstract. Name a class that has `_search` and `effort`.")
    return found


def solver_options(solver: type[Solver] | Solver) -> dict[str, Any]:
    """Return a solver's options with their values, or with the defaults for a class.

    Of a solver inside, its name, with the options that are not their defaults.
    """
    values = {f.name: getattr(solver, f.name, None) for f in fields(solver)}  # of a class, defaults
    return {n: _shown(v) if isinstance(v, Solver) else v for n, v in values.items()}


def solver_name(solver: Solver | type[Solver]) -> str:
    """Return a solver's name in the table, or for one from elsewhere "package.module:Class"."""
    kind = solver if isinstance(solver, type) else type(solver)
    own = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, known in SOLVERS.items() if known is kind), own)


def _shown(solver: Solver) -> str:
    """Return a solver inside another, in words."""
    usual = solver_options(type(solver))
    own = [f"{n}={v}" for n, v in solver_options(solver).items() if v != usual[n]]
    return solver_name(solver) + (f"({', '.join(own)})" if own else "")


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read(entry: Described, value: Any, seed: int) -> Any:
    """Return a value for an option, texts of the command line as what they stand for."""
    if isinstance(entry.default, Solver):
        return make_solver(value, seed=seed)
    return entry.read(value) if isinstance(value, str) else value
