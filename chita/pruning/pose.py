"""How the problem of a stage is posed: what is given, and what is to be chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

from chita.errors import InputError
from chita.problem import BlockGram
from chita.pruning.config import AUTO, FULL, OUTPUTS, Quadratic
from chita.solvers import Solver
from chita.solvers.named import solver_name

_PLAIN: dict[str, Any] = {"ridge": "0.1x", "first_order": 0.0, "step_size": 1.0}


@final
@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the quadratic model is posed, and how far its solution is followed.

    Fields: `quadratic`, as asked for; `structure` of the Fisher (`chita.pruning.config.Fisher`).
    With `hold`, a ridge that is relative is relative to the curvature of the first stage, in all
    of them, and a step size that is chosen is 1.
    """

    quadratic: Quadratic = Quadratic()
    structure: str = AUTO
    hold: bool = False

    @property
    def ridge(self) -> float | str:
        """λ as asked for."""
        return self.quadratic.ridge

    @property
    def first_order(self) -> float | str:
        """The scale s as asked for."""
        return self.quadratic.first_order

    @property
    def step_size(self) -> float | str:
        """τ as asked for."""
        return self.quadratic.step_size

    def at(self, *, structure: str | None = None, **quadratic: float | str) -> Pose:
        """Return the same with other values of the quadratic, and perhaps another structure."""
        return replace(
            self,
            quadratic=replace(self.quadratic, **quadratic),
            structure=structure or self.structure,
        )

    def settled(self, solver: Solver) -> Pose:
        """Return the same with plain values where this solver leaves nothing to choose.

        Raises `InputError` where a structure is asked of a solver that does not take it.
        """
        chosen = solver.chosen
        if not solver.takes(BlockGram) and self.structure == OUTPUTS:
            raise InputError(
                f"`structure` is {self.structure!r}, but {solver_name(solver)} takes the Fisher in "
                "full; leave it out, or use chita, bso, iht or cd. block-bso and woodfisher have "
                "blocks of their own: their option block_size."
            )
        plain = {
            name: value
            for name, value in _PLAIN.items()
            if getattr(self.quadratic, name) == AUTO and name not in chosen
        }
        free = "structure" in chosen and self.ridge == AUTO and solver.takes(BlockGram)
        structure = self.structure if free or self.structure != AUTO else FULL
        return self.at(structure=structure, **plain)

    @property
    def judged(self) -> bool:
        """Whether something is chosen by validation samples."""
        return AUTO in (self.ridge, self.first_order, self.step_size, self.structure)
