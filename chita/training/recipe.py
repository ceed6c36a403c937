"""The recipe by which a network is trained while it is pruned."""

from __future__ import annotations

import math
from typing import final

from chita.errors import InputError
from chita.options import Options, option

OPTIMIZERS = ("sgd", "adamw")
AUGMENTATIONS = ("none", "crop-flip")


@final
class Training(Options):
    """Epochs of fine-tuning, with pruning events between them.

    Event e = 0, 1, ... comes before epoch e·`every`; all epochs after the last one train under the
    final mask. The share removed by event e of E is the cubic of Zhu & Gupta (2017),

        s_e = s + (s_0 - s)(1 - e/(E-1))³,   s the final share, s_0 = min(`initial`, s).

    Distillation: the loss is (1 - α)·loss + α·T²·KL(dense‖pruned), both at temperature T (Hinton et
    al. 2015); for mse the mean square between the two outputs takes the place of T²·KL. The
    augmentation crop-flip takes images (N, C, H, W): a shift by up to an eighth of the side, zeros
    moving in, and a mirror image every other time.

    Raises `InputError` that names the field.

    >>> Training(epochs=6, events=3, every=2).sparsities(0.9)
    (0.5, 0.85, 0.9)
    """

    epochs: int = option(
        8, "Passes over the data in all, validation samples left aside.", at_least=1
    )
    events: int = option(4, "Pruning events E.", at_least=1)
    every: int = option(1, "Epochs from one event to the next.", at_least=1)
    initial: float = option(
        0.5, "Share of the weights that the first of several events removes.", at_least=0, below=1
    )
    optimizer: str = option(
        "sgd", "sgd, with Nesterov's momentum where it is not zero, or adamw.", choices=OPTIMIZERS
    )
    batch: int = option(
        128, "Samples of a step; data that come in batches of their own keep them.", at_least=1
    )
    rate: float = option(
        0.02, "Highest learning rate, from which it falls along half a cosine.", above=0
    )
    final_rate: float = option(
        0.01, "Learning rate at the end of a cosine, as a share of `rate`.", at_least=0, at_most=1
    )
    restarts: bool = option(
        True, "A cosine from every event to the next; otherwise one over all epochs."
    )
    warm_up: float = option(
        0.1, "Epochs at the start of each cosine in which the rate grows from zero.", at_least=0
    )
    momentum: float = option(0.9, "Momentum of sgd.", at_least=0, below=1)
    weight_decay: float = option(
        5e-4, "Weight decay of tensors with at least two dimensions.", at_least=0
    )
    clip: float | None = option(None, "Largest norm of the gradient.", above=0, unset="no limit")
    label_smoothing: float = option(
        0.0, "Smoothing of the targets of cross_entropy.", at_least=0, below=1
    )
    distillation: float = option(
        0.0, "Weight α in the loss of the distance to the dense network.", at_least=0, at_most=1
    )
    temperature: float = option(2.0, "Temperature T of distillation.", above=0)
    augmentation: str = option(
        "none",
        "crop-flip shifts and mirrors images at random; none.",
        choices=AUGMENTATIONS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        last = (self.events - 1) * self.every
        if last >= self.epochs:
            raise InputError(
                f"{self.events} events, one every {self.every} epochs, need more than {last} "
                f"epochs, so that one comes after the last; `epochs` is {self.epochs}. Give more "
                "epochs, or fewer events."
            )

    def event_before(self, epoch: int) -> int | None:
        """Return the event that comes before an epoch (from 0), None where none does."""
        event, rest = divmod(epoch, self.every)
        return event if not rest and event < self.events else None

    def sparsities(self, final: float) -> tuple[float, ...]:
        """Return the share removed by each event, the last of which is the `final` one."""
        first, last = min(self.initial, final), self.events - 1
        way = (final + (first - final) * (1 - e / last) ** 3 for e in range(last))
        return (*(float(f"{share:.12g}") for share in way), final)

    def rate_at(self, when: float) -> float:
        """Return the learning rate `when` so many epochs, whole ones and a part, are done."""
        begin, end = 0, self.epochs
        if self.restarts:
            event = min(int(when) // self.every, self.events - 1)
            begin = event * self.every
            end = self.epochs if event == self.events - 1 else begin + self.every
        done = when - begin
        if done < self.warm_up:
            return self.rate * done / self.warm_up
        along = (done - self.warm_up) / max(end - begin - self.warm_up, 1e-9)
        floor = self.rate * self.final_rate
        return floor + (self.rate - floor) * (1 + math.cos(math.pi * min(1.0, along))) / 2
