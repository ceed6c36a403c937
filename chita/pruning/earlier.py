"""The rows of earlier stages, which go on telling of the curvature."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from chita.collect.gradients import Collected
from chita.problem import StackedRows


@final
class Earlier:
    """The rows of the last `count` stages, collected where the network was then.

    H is the mean over the fresh rows and these alike; the first-order term is of the fresh ones,
    since the gradient is another at every stage, where the curvature is similar. Each stage so has
    `count + 1` times the rows, for the gradients of one. Not in Benbaki et al. (2023), where a
    stage's Fisher is of its own rows alone.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: dict[int, Collected] = {}

    def lacks(self, stage: int, stages: int) -> bool:
        """Whether the rows of a stage are of use to one after so many stages, and not here."""
        return stages - self._count <= stage < stages and stage not in self._held

    def add(self, stage: int, collected: Collected) -> None:
        """Hold the rows of a stage for the next ones, and let those go that are too old."""
        self._held[stage] = collected
        self._held = {s: c for s, c in self._held.items() if s > stage - self._count}

    def below(self, fresh: Collected) -> Collected:
        """Return fresh rows with the earlier ones below them.

        With n fresh rows of N, their divisors are N/n times what they were and those of the others
        zero, so that Aᵀ divisors/N is still the gradient of the mean loss of the fresh ones.
        """
        if not self._held:
            return fresh
        rows = StackedRows([fresh.rows, *(self._held[s].rows for s in sorted(self._held))])
        divisors = fresh.divisors.new_zeros(rows.n)
        divisors[: fresh.rows.n] = fresh.divisors * (rows.n / fresh.rows.n)
        return replace(fresh, rows=rows, divisors=divisors)

    def forget(self) -> None:
        """Let all rows go."""
        self._held = {}
