"""The promises of a solver, and its result."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from chita.constraints import Constraint
from chita.errors import InputError, NumericalError
from chita.options import Options, option
from chita.problem import Curvature, LocalQuadratic, Minimum, lower_bound


class Status(StrEnum):
    """The end of a solve. Running out of iterations is a status, not an error."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"


@final
@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a solver's search: `weights` (p,), zero off `mask` (p,), and its history.

    `trace` holds Q at the start and after each iteration, as the solver kept it; `iterations`
    counts them where a solver keeps no trace.
    """

    weights: Tensor
    mask: Tensor
    status: Status = Status.CONVERGED
    trace: tuple[float, ...] = ()
    iterations: int = 0

    @classmethod
    def at(
        cls,
        minimum: Minimum,
        mask: Tensor,
        status: Status = Status.CONVERGED,
        trace: Sequence[float] = (),
    ) -> Found:
        """Return the minimum on a mask (p,); without a trace, its Q is one."""
        trace = tuple(trace) or (minimum.objective,)
        return cls(weights=minimum.weights, mask=mask, status=status, trace=trace)

    @classmethod
    def mask_alone(
        cls, problem: LocalQuadratic, mask: Tensor, status: Status = Status.CONVERGED
    ) -> Found:
        """Return a mask (p,) with the weights that it keeps as they are."""
        return cls(weights=torch.where(mask, problem.w_bar, 0), mask=mask, status=status)


@final
@dataclass(frozen=True, kw_only=True)
class Stats:
    """Effort: `iterations`, wall-clock `seconds`, and `trace`, Q at the start and after each."""

    iterations: int
    seconds: float
    trace: tuple[float, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Solution:
    """Weights (p,) and mask (p,), with weights zero off the mask and the mask allowed.

    `objective` is Q at the weights, in float64, computed from the problem and not taken from the
    solver. `lower_bound` is a proven bound below the optimum, where the solver has `bound`.
    """

    weights: Tensor
    mask: Tensor
    objective: float
    lower_bound: float | None
    status: Status
    stats: Stats


@final
@dataclass(frozen=True, kw_only=True)
class Effort:
    """The typical cost of a solve, for predictions only.

    `streams` are passes over the rows A, `systems` Grams of a support with their factorisation.
    """

    streams: int
    systems: int


EVERYTHING = frozenset(("ridge", "first_order", "step_size", "structure"))
"""All that `Solver.tunable` may name."""


class Solver(Options, ABC):
    """A way to minimise a `LocalQuadratic` over an allowed set of masks.

    A solver is a frozen dataclass whose fields are its options (`chita.options`). It keeps nothing
    between calls, changes no argument, and gives the same bits for the same input.

    Class variables: `curvatures` and `constraints` name the types that it accepts, by default all;
    an empty `curvatures` means that none is needed and none need be collected; `asks_loss`, whether
    it asks the problem's `loss` while it solves, so that validation samples are needed.
    """

    bound: bool = option(False, "Also prove how low the objective can be at any allowed mask.")

    curvatures: ClassVar[tuple[type[Curvature], ...]] = (Curvature,)
    constraints: ClassVar[tuple[type[Constraint], ...]] = (Constraint,)
    asks_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise `InputError` that names every option that cannot be used."""
        super().__post_init__()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, Solver) and not isinstance(value, Solver):
                told = field.metadata.get("help", "")
                raise InputError(
                    f"`{field.name}` is {value!r}; give a solver such as "
                    f"{type(field.default).__name__}(). {told}"
                )

    @classmethod
    def takes(cls, kind: type[Curvature]) -> bool:
        """Return whether a problem with this curvature is accepted, or none is needed."""
        return not cls.curvatures or issubclass(kind, cls.curvatures)

    @property
    @abstractmethod
    def effort(self) -> Effort:
        """The typical cost of a solve."""

    @property
    def brief(self) -> Solver:
        """The same solver at less effort, for a problem that the next stage replaces.

        It proves no bound: that is done once, in the last stage.
        """
        return self.without_bound

    @property
    def without_bound(self) -> Self:
        """The same solver, where neither it nor a solver inside it proves a bound."""
        inside = {
            field.name: value.without_bound
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Solver)
        }
        return replace(self, bound=False, **inside)

    @property
    def tunable(self) -> frozenset[str]:
        """Which of λ, s, τ and the structure of H may be tuned for this solver: all of them.

        What is not among them takes a plain value under "auto": s and τ since they have no effect
        on what the solver finds, λ also where a choice by the minima of Q would not be one for it.
        """
        return EVERYTHING

    def solve(
        self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None = None
    ) -> Solution:
        """Return the best weights and mask that this solver finds.

        Args:
            problem: Q over p weights.
            constraint: the allowed masks over the same p weights.
            start: weights (p,) from which to begin; w̄ where None. The result may be any allowed
                point, whatever the start.

        Returns:
            The solution; its `lower_bound` is that of `chita.problem.lower_bound` where `bound`.

        Raises:
            InputError: the solver does not accept this curvature or constraint, or sizes differ.
            NumericalError: a system was singular or a result was not finite.
        """
        self._check(problem, constraint, start)
        began = time.perf_counter()
        found = self._search(problem, constraint, problem.w_bar if start is None else start)
        seconds = time.perf_counter() - began
        assert constraint.allows(found.mask), f"{type(self).__name__} returned a mask not allowed"
        assert not found.weights[~found.mask].any(), "weights off the mask must be zero"
        if not bool(torch.isfinite(found.weights).all()):
            raise NumericalError(
                f"{type(self).__name__} gave weights that are not finite. Raise `ridge`, or "
                "lower `first_order`."
            )
        lowest = None  # also where nothing is known of the loss
        if self.bound and problem.curvature.informed:
            minimum = problem.minimise_on(found.mask.nonzero().squeeze(1))
            lowest = lower_bound(problem, constraint, minimum)
        return Solution(
            weights=found.weights,
            mask=found.mask,
            objective=problem.value(found.weights),
            lower_bound=lowest,
            status=found.status,
            stats=Stats(
                iterations=max(found.iterations, len(found.trace) - 1),
                seconds=seconds,
                trace=found.trace,
            ),
        )

    @abstractmethod
    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        """Return what is found from `start` (p,), which is w̄ itself where none was given."""

    def _check(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor | None) -> None:
        name = type(self).__name__
        known = problem.curvature.informed and isinstance(problem.curvature, self.curvatures)
        if self.curvatures and not known:
            accepted = ", ".join(c.__name__ for c in self.curvatures)
            raise InputError(
                f"{name} does not accept {type(problem.curvature).__name__}; it needs a curvature "
                f"of type {accepted}."
            )
        if not isinstance(constraint, self.constraints):
            accepted = ", ".join(c.__name__ for c in self.constraints)
            raise InputError(
                f"{name} does not accept {type(constraint).__name__}; it accepts {accepted}."
            )
        sizes = {"problem": problem.curvature.size, "constraint": constraint.size}
        if start is not None:
            sizes["start"] = len(start)
        if len(set(sizes.values())) > 1:
            given = ", ".join(f"{what} {size}" for what, size in sizes.items())
            raise InputError(f"Sizes differ: {given} weights. Bind them to one layout.")


class Selection(Solver):
    """A solver that keeps the weights of largest value and changes none of them."""

    @abstractmethod
    def values(self, problem: LocalQuadratic) -> Tensor:
        """Return what weights (p,) are worth: the mask is the allowed one of most Σ values²."""

    @property
    def effort(self) -> Effort:
        """One pass over the rows, if any, and one selection."""
        return Effort(streams=len(self.curvatures), systems=0)

    @property
    def tunable(self) -> frozenset[str]:
        """Nothing: no weight changes, so minima of Q cannot choose for it."""
        return frozenset()

    def _search(self, problem: LocalQuadratic, constraint: Constraint, start: Tensor) -> Found:
        return Found.mask_alone(problem, constraint.select(self.values(problem)))
