"""How sparsity grows from stage to stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY
from numbers import Real
from typing import Any, final

from chita.errors import InputError
from chita.naming import nearest
from chita.options import Options, option

NORM_SAMPLES = 2000
"""Samples from which the statistics of batch norms are estimated."""

SCHEDULES: Mapping[str, Callable[[int, int, float], float]] = {
    "exp": lambda t, stages, final: final * (1 - 2.0**-t) / (1 - 2.0**-stages),
    "poly": lambda t, stages, final: final * (1 - (1 - t / stages) ** 3),
    "linear": lambda t, stages, final: final * t / stages,
    "constant": lambda t, stages, final: final,
    "geometric": lambda t, stages, final: 1 - (1 - final) ** (t / stages),
}
"""Name to the sparsity of stage t = 1 ... `stages`, which ends at the final one.

`exp` halves what is left to remove, so that most stages are spent near the end (CHITA++, Benbaki
et al. 2023); `poly` is the cubic of Zhu & Gupta (2017); `linear`; `constant` is the final sparsity
from the first stage on; `geometric` removes the same share of what is left (M-FAC, Frantar et al.
2021).
"""


@final
class Stages(Options, kw_only=False):
    """How many stages, on which schedule, and what one leaves to the next.

    Raises `InputError` on no stage, or a schedule that goes backwards.

    >>> Stages(3, schedule="linear").sparsities(0.75)
    (0.25, 0.5, 0.75)
    """

    count: int | None = option(
        None,
        "Rounds of pruning, each with fresh gradients.",
        at_least=1,
        flag="stages",
        unset="1, or as many as the schedule lists",
    )
    _: KW_ONLY
    schedule: str | tuple[float, ...] = option(
        "exp",
        f"How sparsity grows over stages: {', '.join(SCHEDULES)}, or the sparsities themselves, "
        "such as 0.5,0.8,0.9.",
        value="NAME|S1,S2,...",
    )
    regrow: bool = option(
        True,
        "Whether a weight that one stage removes, or that is zero before the first, may be kept by "
        "a later one.",
    )
    bn_recalibrate: bool = option(
        True,
        f"Estimate the statistics of batch norms again when weights changed (after every stage), "
        f"from {NORM_SAMPLES} samples, and keep them unless that raises the validation loss.",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", _schedule(self.schedule))
        super().__post_init__()
        if not isinstance(self.schedule, str) and self.count not in (None, len(self.schedule)):
            raise InputError(
                f"`stages` is {self.count}, but the schedule lists {len(self.schedule)} "
                "sparsities. Leave `stages` out, or list as many."
            )

    @property
    def number(self) -> int:
        """Number of stages T."""
        listed = 1 if isinstance(self.schedule, str) else len(self.schedule)
        return listed if self.count is None else int(self.count)

    def sparsities(
        self, final: float, size: int | None = None, begin: float = 0.0
    ) -> tuple[float, ...]:
        """Return the sparsities of all stages, the last of which is the `final` one.

        A named schedule runs from `begin`, the share that is removed already.

        Raises `InputError` when a list ends elsewhere, by more than one weight of `size`.
        """
        if isinstance(self.schedule, str):
            share = SCHEDULES[self.schedule]
            shares = (share(t, self.number, final) for t in range(1, self.number))
            # All of a schedule is scaled, so that its shape is that of one from nothing.
            way = (begin + (s / final) * (final - begin) if begin else s for s in shares)
            return (*(min(s, final) for s in way), final)
        if abs(self.schedule[-1] - final) > (1 / size if size else 0):
            raise InputError(
                f"`schedule` ends at sparsity {self.schedule[-1]}, but the budget asks for "
                f"{final:.6g}. End the list there."
            )
        return (*self.schedule[:-1], final)


def as_stages(stages: int | Stages) -> Stages:
    """Return stages, of which a number alone may be given."""
    return stages if isinstance(stages, Stages) else Stages(stages)


def _schedule(schedule: Any) -> str | tuple[float, ...]:
    """A schedule by its name, or as sparsities, which the command line gives as a text."""
    if isinstance(schedule, str) and any(c.isdigit() for c in schedule):
        try:
            schedule = tuple(map(float, schedule.split(",")))
        except ValueError:
            raise InputError(
                f"`schedule` is {schedule!r}; give a name, or sparsities such as 0.5,0.8,0.9."
            ) from None
    if not isinstance(schedule, str):
        return _listed(schedule)
    if schedule not in SCHEDULES:
        raise InputError(
            f"Unknown schedule {schedule!r}. {nearest(schedule, SCHEDULES)} Or give "
            "the sparsities of all stages, such as 0.5,0.8,0.9."
        )
    return schedule


def _listed(schedule: Any) -> tuple[float, ...]:
    if not isinstance(schedule, Sequence) or not schedule:
        raise InputError(
            f"`schedule` is {schedule!r}; give one of {', '.join(SCHEDULES)}, or a list of "
            "sparsities such as [0.5, 0.8, 0.9]."
        )
    wrong = [s for s in schedule if not isinstance(s, Real) or isinstance(s, bool) or s != s]
    if wrong:
        raise InputError(
            f"`schedule` has {wrong[0]!r}; give sparsities in [0, 1), such as [0.5, 0.8, 0.9]."
        )
    found = tuple(map(float, schedule))
    for earlier, later in zip((0.0, *found), found, strict=False):
        if later < earlier or later >= 1:
            raise InputError(
                f"`schedule` goes from {earlier} to {later}; sparsities are in [0, 1) and never "
                "fall."
            )
    return found
