"""Groups of options: how a network is pruned, beside the budget and the solver."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from chita.errors import InputError, NumericalError
from chita.options import Options, option, values_of
from chita.pruning.schedule import Stages
from chita.training.recipe import Training

if TYPE_CHECKING:
    from chita.problem import Curvature

AUTO = "auto"
"""Chosen by the loss on validation samples."""

GRADIENTS = 1000
"""Gradients of a stage, unless asked for or the data give fewer."""

VALIDATION = 2000
"""Validation samples at most, unless asked for."""

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Shares removed that `sensitivity` tries, unless others are asked for."""

FULL, OUTPUTS = "full", "outputs"
"""The Fisher with all its entries, and with only those between weights of the same output."""

__all__ = [
    "AUTO",
    "FULL",
    "GRADIENTS",
    "OUTPUTS",
    "SPARSITIES",
    "VALIDATION",
    "Checkpoint",
    "Fisher",
    "Memory",
    "Quadratic",
    "Ridge",
    "RunOptions",
    "Stages",
    "Training",
    "check_groups",
    "check_one_stage",
]


@final
class Fisher(Options):
    """How the curvature is estimated: H = AᵀA/n from the rows A (n, p), gradients of the loss.

    Layer by layer, `samples` are those that the layers see, and the others have no part.

    >>> Fisher(samples=500).samples_per_gradient
    1
    """

    samples: int | None = option(
        None,
        "Gradients n to collect, in every stage where there are several.",
        at_least=1,
        unset=f"{GRADIENTS}, or what the data give",
    )
    samples_per_gradient: int = option(
        1, "Samples m whose mean loss makes one gradient; n·m samples are used.", at_least=1
    )
    labels: str = option(
        "data",
        "Targets of the samples: those of the data, or drawn from the network's predictions (the "
        "true Fisher).",
        choices=("data", "model"),
    )
    weighting: str = option(
        AUTO,
        "empirical takes gradients as they are; improved divides each by its error at the outputs. "
        "auto improves where the loss compares outputs with targets.",
        choices=(AUTO, "improved", "empirical"),
    )
    structure: str = option(
        AUTO,
        "full, or outputs: only entries between weights of one output. auto chooses by validation "
        "loss where ridge is chosen, and is full elsewhere.",
        choices=(AUTO, FULL, OUTPUTS),
    )
    history: int = option(
        0,
        "Earlier stages whose gradients are used again: more memory and time to solve, no more "
        "gradients.",
        at_least=0,
    )
    storage: str | None = option(
        None,
        "Type in which gradients are kept; products are in float32.",
        choices=("float32", "bfloat16", "float16"),
        unset="that of the weights, float32 at least",
    )


@final
@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A ridge λ as asked for: `value`, or where `relative`, `value` times the mean of H's diagonal.

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
            f"`ridge` is {ridge!r}; give a number >= 0, a multiple of the mean curvature such as "
            '"0.1x", or "auto".'
        )

    def of(self, curvature: Curvature) -> float:
        """Return λ for a curvature.

        Raises `NumericalError` when the diagonal is too small to have a multiple.
        """
        if not self.relative:
            return self.value
        ridge = self.value * float(curvature.diagonal().double().mean())
        if self.value > 0 and ridge == 0 and curvature.informed:
            raise NumericalError(
                "The gradients are so small that their squares vanish, so a multiple of their mean "
                "is no ridge. Scale the loss up, or give `ridge` as a number."
            )
        return ridge


@final
class Quadratic(Options):
    """How the quadratic model of the loss is set up, and how far its solution is followed.

    auto chooses by the loss on validation samples (`chita.pruning.tuning`).

    >>> Quadratic(ridge="0.1x").ridge
    '0.1x'
    """

    ridge: float | str = option(
        AUTO,
        "λ, which multiplies ½‖w - w̄‖² beside the mean loss; 0.1x is 0.1 times the mean of the "
        "Hessian's diagonal; or auto.",
    )
    first_order: float | str = option(
        AUTO,
        "Scale s of the first-order term, which trains the weights that stay; 0 for none, or auto.",
        choices=(AUTO,),
    )
    step_size: float | str = option(
        AUTO,
        "Share of the way from w̄ to the solution, or auto; 0 takes only the mask.",
        at_least=0,
        at_most=1,
        choices=(AUTO,),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ridge != AUTO:
            Ridge.parse(self.ridge)


@final
class RunOptions(Options):
    """Single options of a run, which `prune` takes by themselves."""

    layerwise: bool | None = option(
        None,
        "Prune layer by layer, each so that its outputs change least, in place of all together by "
        "a model of the loss.",
        unset="as the solver does: alps, obc, sparsegpt and wanda do nothing else",
    )
    validation: int | None = option(
        None,
        "Samples that make no gradient, by whose loss auto chooses.",
        at_least=0,
        unset=f"half as many as the gradients take, at most {VALIDATION} and a fifth of the data",
    )
    seed: int = option(0, "Seed of the draw of samples and labels.", at_least=0)


@final
class Memory(Options):
    """How much memory a run may add to the process.

    Gradients, solver and batches share it: what a solver works with is taken off, half of it at
    most, and gradients take what batches leave. Those that do not fit as a matrix are held by what
    layers were used on (`chita.problem.PositionedRows`). Layer by layer it is that of activations,
    of which more go to files.

    >>> Memory(max_memory=0.5).asked_bytes
    500000
    """

    max_memory: float | None = option(
        None,
        "Megabytes that the run may add: gradients, solver and batches; or activations.",
        at_least=0,
        unset="half of what is free",
    )

    @property
    def asked_bytes(self) -> int | None:
        """The limit in bytes, None where the machine sets it."""
        return None if self.max_memory is None else int(self.max_memory * 1_000_000)


@final
class Checkpoint(Options, kw_only=False):
    """The file in which finished stages, epochs or layers are kept while a run lasts.

    A run goes on from it to the same bits; its settings and network must be the same.

    >>> Checkpoint("run.unfinished", resume=True).path
    PosixPath('run.unfinished')
    """

    path: Path = option(help="File to write; it is removed when the run is done.")
    _: KW_ONLY
    resume: bool = option(False, "Go on from the file, if it is there.")


def check_one_stage(stages: Stages, fisher: Fisher, what: str) -> None:
    """Raise `InputError` that names options that were set and only serve several stages."""
    pairs: tuple[tuple[Options, Options], ...] = (
        (stages, Stages(bn_recalibrate=stages.bn_recalibrate)),
        (fisher, replace(fisher, history=Fisher.history)),
    )
    for options, plain in pairs:
        own, other = values_of(options), values_of(plain)
        idle = [f"`{name}`" for name, value in own.items() if value != other[name]]
        if idle:
            raise InputError(f"{' and '.join(idle)} have no part in {what}. Leave them out.")


def check_groups(**groups: object) -> None:
    """Raise `InputError` where a group of options, by its parameter's name, is something else."""
    kinds: dict[str, type[Options]] = {
        "fisher": Fisher,
        "quadratic": Quadratic,
        "memory": Memory,
        "stages": Stages,
        "training": Training,
    }
    for name, given in groups.items():
        kind = kinds[name]
        off = name == "training" and given is None
        if not off and not isinstance(given, kind):
            raise InputError(
                f"`{name}` is {given!r}; give options as chita.{kind.__name__}(...), which "
                f"help(chita.{kind.__name__}) lists."
            )
