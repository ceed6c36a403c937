"""Settings as users give them, into a problem, a budget and a solver."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from chita.arguments import real_number
from chita.constraints import Budget, Nonzeros, Sparsity
from chita.errors import InputError
from chita.naming import nearest
from chita.problem import DenseRows, GradientGram, LocalQuadratic, NoCurvature
from chita.solvers import SOLVERS, Solver


def make_solver(method: str | Solver, options: Mapping[str, Any] | None = None) -> Solver:
    """Return the solver of a name, with its fields set from `options`; a solver as it is.

    Raises `InputError` on an unknown name or field, or a value that the field does not take.
    """
    if isinstance(method, Solver):
        return method
    if not isinstance(method, str):
        raise InputError(
            f"method is {method!r}; give a name ({', '.join(SOLVERS)}) or a solver such as CHITA()."
        )
    if method not in SOLVERS:
        raise InputError(f"Unknown method {method!r}. {nearest(method, SOLVERS)}")
    known = solver_options(SOLVERS[method])
    values = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise InputError(f"{method} has no option {name!r}. {nearest(name, known)}")
        values[name] = _converted(value, known[name], f"{method}'s option {name}")
    return SOLVERS[method](**values)


def solver_options(solver: type[Solver] | Solver) -> dict[str, Any]:
    """Return a solver's options with their values, or with the defaults for a class."""
    instance = solver() if isinstance(solver, type) else solver
    return {f.name: getattr(instance, f.name) for f in fields(instance)}  # type: ignore[arg-type]


def solver_name(solver: Solver) -> str:
    """Return the name of a solver in the table, or its class's name for one from elsewhere."""
    return next((n for n, kind in SOLVERS.items() if kind is type(solver)), type(solver).__name__)


def _converted(value: Any, default: Any, what: str) -> Any:
    """A number (or its text, from the command line) as the type of the field's default."""
    kind = int if isinstance(default, int) else float
    try:
        number = kind(value)
        if math.isfinite(number) and (kind is float or number == float(value)):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    expected = "a whole number" if kind is int else "a number"
    raise InputError(f"{what} is {value!r}; it takes {expected}, such as {default or 1.0}.")


def make_budget(sparsity: float | None, nnz: int | None) -> Budget:
    """Return the budget given by exactly one of `sparsity` and `nnz`.

    Raises `InputError` on both, neither, or a value out of range.
    """
    if sparsity is not None and nnz is None:
        return Sparsity(sparsity=sparsity)
    if nnz is not None and sparsity is None:
        return Nonzeros(nnz=nnz)
    given = "neither" if sparsity is None else "both"
    raise InputError(
        f"Give one of sparsity (share removed, such as 0.9) and nnz (weights kept); got {given}."
    )


def make_problem(
    w_bar: Tensor, rows: DenseRows | None, ridge: float | str, first_order: float
) -> LocalQuadratic:
    """Return the quadratic model around w̄ (p,), with no curvature where no rows were collected.

    Args:
        w_bar: the weights, (p,).
        rows: A (n, p), or None.
        ridge: λ, or a text such as "0.1x", 0.1 times the mean of H's diagonal.
        first_order: s, the scale of the first-order term; 0 leaves it out.

    Raises:
        InputError: `ridge` or `first_order` is not of that form.
    """
    scale = real_number("first_order", first_order, meaning="the scale of that term, 0 for none")
    share, value = _parse_ridge(ridge)
    curvature = NoCurvature(len(w_bar)) if rows is None else GradientGram(rows)
    if share is not None:
        value = share * float(curvature.diagonal().double().mean())
    return LocalQuadratic(
        w_bar=w_bar, curvature=curvature, ridge=value, shift=curvature.constant(scale)
    )


def _parse_ridge(ridge: float | str) -> tuple[float | None, float]:
    """(share of the mean diagonal, None where absolute) and the absolute value."""
    text = str(ridge).strip()
    try:
        number = float(text.removesuffix("x"))
        if 0 <= number < math.inf:
            return (number, 0.0) if text.endswith("x") else (None, number)
    except ValueError:
        pass
    raise InputError(
        f"ridge is {ridge!r}; give a number >= 0, or a multiple of the mean curvature such as "
        '"0.1x".'
    )
