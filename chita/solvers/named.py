"""Solvers by their names and options, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from chita.errors import InputError
from chita.imports import imported, is_import
from chita.naming import nearest
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
    known = _fields(kind())
    values: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    for name, value in (options or {}).items():
        if name not in known:
            raise InputError(f"{solver} has no option {name!r}. {nearest(name, known)}")
        values[name] = _converted(value, known[name], f"{solver}'s option {name}", seed)
    return kind(**values)


def solver_class(name: str) -> type[Solver]:
    """Return the class of a solver by its name in the table, or by "package.module:Class".

    Raises `InputError` when there is none, or it is no solver.
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
    return found


def solver_options(solver: type[Solver] | Solver) -> dict[str, Any]:
    """Return a solver's options with their values, or with the defaults for a class.

    Of a solver inside, its name, with the options that are not their defaults.
    """
    values = _fields(solver() if isinstance(solver, type) else solver)
    return {n: _shown(v) if isinstance(v, Solver) else v for n, v in values.items()}


def solver_name(solver: Solver | type[Solver]) -> str:
    """Return a solver's name in the table, or for one from elsewhere "package.module:Class"."""
    kind = solver if isinstance(solver, type) else type(solver)
    own = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, known in SOLVERS.items() if known is kind), own)


def _shown(solver: Solver) -> str:
    """A solver inside another, in words."""
    usual = solver_options(type(solver))
    own = [f"{n}={v}" for n, v in solver_options(solver).items() if v != usual[n]]
    return solver_name(solver) + (f"({', '.join(own)})" if own else "")


def _fields(solver: Solver) -> dict[str, Any]:
    return {f.name: getattr(solver, f.name) for f in fields(solver)}


def _converted(value: Any, default: Any, what: str, seed: int) -> Any:
    """A number (or its text, from the command line) as the type of the field's default."""
    if isinstance(default, Solver):
        return make_solver(value, seed=seed)
    if default is None and str(value).lower() == "none":
        return None
    if isinstance(default, bool):
        return _truth(value, what)
    if isinstance(default, str):
        return value
    kind = int if isinstance(default, int) else float
    try:
        number = math.nan if isinstance(value, bool) else kind(value)
        if math.isfinite(number) and (kind is float or number == float(value)):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    expected = "a whole number" if kind is int else "a number"
    raise InputError(f"{what} is {value!r}; it takes {expected}, such as {default or 1.0}.")


def _truth(value: Any, what: str) -> bool:
    """True or False, or its text."""
    truth = {"true": True, "false": False}.get(str(value).lower())
    if truth is None:
        raise InputError(f"{what} is {value!r}; it takes true or false.")
    return truth
