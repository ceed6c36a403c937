"""Settings as users give them, into a problem and a solver."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, final

from chita.arguments import real_number
from chita.errors import InputError, NumericalError
from chita.naming import nearest
from chita.problem import BlockGram, Curvature, NoCurvature
from chita.pruning.posed import OUTPUTS, WHOLE
from chita.solvers import SOLVERS, Solver


def make_solver(
    method: str | Solver, options: Mapping[str, Any] | None = None, seed: int = 0
) -> Solver:
    """Return the solver of a name, with its fields set from `options`; a solver as it is.

    A field `seed` that `options` leave out takes the seed of the run.

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
    known = _fields(SOLVERS[method]())
    values = {"seed": seed} if "seed" in known else {}
    for name, value in (options or {}).items():
        if name not in known:
            raise InputError(f"{method} has no option {name!r}. {nearest(name, known)}")
        values[name] = _converted(value, known[name], f"{method}'s option {name}", seed)
    return SOLVERS[method](**values)


def solver_options(solver: type[Solver] | Solver) -> dict[str, Any]:
    """Return a solver's options with their values, or with the defaults for a class.

    Of a solver inside, its name, with the options that are not their defaults.
    """
    values = _fields(solver() if isinstance(solver, type) else solver)
    return {n: _told(v) if isinstance(v, Solver) else v for n, v in values.items()}


def _told(solver: Solver) -> str:
    """A solver inside another, in words."""
    usual = solver_options(type(solver))
    own = [f"{n}={v}" for n, v in solver_options(solver).items() if v != usual[n]]
    return solver_name(solver) + (f"({', '.join(own)})" if own else "")


def _fields(solver: Solver) -> dict[str, Any]:
    return {f.name: getattr(solver, f.name) for f in fields(solver)}  # type: ignore[arg-type]


def solver_name(solver: Solver) -> str:
    """Return the name of a solver in the table, or its class's name for one from elsewhere."""
    return next((n for n, kind in SOLVERS.items() if kind is type(solver)), type(solver).__name__)


def _converted(value: Any, default: Any, what: str, seed: int) -> Any:
    """A number (or its text, from the command line) as the type of the field's default."""
    if isinstance(default, Solver):
        return make_solver(value, seed=seed)
    if default is None and str(value).lower() == "none":
        return None
    if isinstance(default, bool):
        return _truth(value, what)
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


@final
@dataclass(frozen=True, kw_only=True)
class Ridge:
    """λ as asked for: `value`, or where `relative`, `value` times the mean of H's diagonal.

    >>> Ridge.parse("0.1x")
    Ridge(value=0.1, relative=True)
    """

    value: float
    relative: bool

    @classmethod
    def parse(cls, ridge: float | str) -> Ridge:
        """Return the ridge of a number, or of a text such as "0.1x".

        Raises `InputError` on anything else, and on what is negative or not finite.
        """
        text = str(ridge).strip()
        try:
            value = float(text.removesuffix("x"))
        except ValueError:
            value = math.nan
        if 0 <= value < math.inf:
            return cls(value=value, relative=text.endswith("x"))
        raise InputError(
            f"ridge is {ridge!r}; give a number >= 0, a multiple of the mean curvature such as "
            '"0.1x", or "auto".'
        )

    def of(self, curvature: Curvature) -> float:
        """Return λ for a curvature.

        Raises `NumericalError` when the diagonal is too small to have a multiple.
        """
        if not self.relative:
            return self.value
        ridge = self.value * float(curvature.diagonal().double().mean())
        if self.value > 0 and ridge == 0 and not isinstance(curvature, NoCurvature):
            raise NumericalError(
                "The gradients are so small that their squares vanish, so a multiple of their mean "
                "is no ridge. Scale the loss up, or give ridge as a number."
            )
        return ridge


AUTO = "auto"
_PLAIN: dict[str, Any] = {"ridge": "0.1x", "first_order": 0.0, "step": 1.0, "fisher_blocks": WHOLE}


@final
@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the quadratic model is posed, and how far its solution is followed.

    Fields, each "auto" or a value: `ridge` as asked for; the first-order scale s; `step` τ in
    [0, 1], the share of the way from w̄ on the solver's mask to its weights: 0 leaves the weights
    that stay as they are; `fisher_blocks`, "whole" or "outputs" (`chita.pruning.posed`),
    chosen only where λ is. With `hold`, a ridge that is relative is relative to the curvature of
    the first stage, in all of them, and a step that is chosen is 1.

    Raises `InputError` when one cannot be used.
    """

    ridge: float | str = AUTO
    first_order: float | str = AUTO
    step: float | str = AUTO
    fisher_blocks: str = AUTO
    hold: bool = False

    def __post_init__(self) -> None:
        if self.ridge != AUTO:
            Ridge.parse(self.ridge)
        for name, meaning in (
            ("first_order", 'the scale of that term, 0 for none, or "auto"'),
            ("step", 'a share of the step, in [0, 1], or "auto"'),
        ):
            value = getattr(self, name)
            if value != AUTO:
                object.__setattr__(self, name, _number(name, value, meaning))
        if self.fisher_blocks not in (AUTO, WHOLE, OUTPUTS):
            raise InputError(
                f"fisher_blocks is {self.fisher_blocks!r}; give {WHOLE!r}, {OUTPUTS!r} (entries of "
                f"the Fisher between weights of one output alone), or {AUTO!r}."
            )
        if self.step != AUTO and not 0 <= float(self.step) <= 1:
            raise InputError(f"step is {self.step}; give a share of the step, in [0, 1].")

    def settled(self, solver: Solver) -> Pose:
        """Return the same with plain values where this solver leaves nothing to choose.

        Raises `InputError` where blocks are asked of a method that does not take them.
        """
        chosen = solver.chosen
        if not solver.takes(BlockGram) and self.fisher_blocks == OUTPUTS:
            raise InputError(
                f"fisher_blocks is {self.fisher_blocks}, but {solver_name(solver)} takes the "
                "Fisher whole; leave it out, or use chita, bso, iht or cd. block-bso and "
                "woodfisher have blocks of their own: their option block_size."
            )
        if self.ridge != AUTO or not solver.takes(BlockGram):
            chosen -= {"fisher_blocks"}
        return replace(
            self,
            **{
                name: value
                for name, value in _PLAIN.items()
                if getattr(self, name) == AUTO and name not in chosen
            },
        )

    @property
    def judged(self) -> bool:
        """Whether something is chosen by held-out samples."""
        return AUTO in (self.ridge, self.first_order, self.step, self.fisher_blocks)


def _number(name: str, value: float | str, meaning: str) -> float:
    """A number, or its text from the command line."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    return real_number(name, value, meaning=meaning)
