"""How a network is trained while it is pruned: what users say, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from chita.arguments import real_number, whole_number
from chita.errors import InputError
from chita.naming import nearest

OPTIMIZERS = ("sgd", "adamw")
AUGMENTATIONS = ("none", "crop-flip")


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """Epochs of fine-tuning, with pruning events between them.

    Event e = 0, 1, ... comes before epoch e·`every`; all epochs after the last one train under the
    final mask. The share removed by event e of E is the cubic of Zhu & Gupta (2017),

        s_e = s + (s_0 - s)(1 - e/(E-1))³,   s the final share, s_0 = min(`initial`, s).

    Fields:
        epochs: passes over the data in all, those held out left aside.
        events: pruning events E.
        every: epochs from one event to the next.
        initial: share of the weights that the first of several events removes.
        optimizer: "sgd" (with `momentum`, Nesterov's where it is not zero) or "adamw".
        batch: samples of a step. Data that come in batches of their own keep them.
        rate: learning rate at its highest; it falls to `rate`·`final_rate` along half a cosine,
            from every event to the next where `restarts`, else once over all epochs.
        warm_up: epochs, at the beginning of each cosine, in which the rate grows from zero.
        weight_decay: of weights with at least two dimensions; biases and norms have none.
        clip: largest norm of the gradient, None for any.
        label_smoothing: in [0, 1); for cross_entropy.
        distillation: weight α in [0, 1] of the divergence from the network as it was before,
            in (1 - α)·loss + α·T²·KL(dense‖pruned), both at `temperature` T (Hinton et al. 2015);
            for mse the mean square between the two outputs in place of T²·KL.
        augmentation: "crop-flip" for images (N, C, H, W): a shift by up to an eighth of the side,
            zeros moving in, and a mirror image every other time; "none".

    Raises `InputError` that names the field.

    >>> Training(epochs=6, events=3, every=2).sparsities(0.9)
    (0.5, 0.85, 0.9)
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic reads it off the class)

    epochs: int = 8
    events: int = 4
    every: int = 1
    initial: float = 0.5
    optimizer: str = "sgd"
    batch: int = 128
    rate: float = 0.02
    final_rate: float = 0.01
    restarts: bool = True
    warm_up: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float | None = None
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 2.0
    augmentation: str = "none"

    def __post_init__(self) -> None:
        for name, meaning in (
            ("epochs", "passes over the data"),
            ("events", "pruning events"),
            ("every", "epochs between two events"),
            ("batch", "samples of a step"),
        ):
            whole_number(name, getattr(self, name), at_least=1, meaning=meaning)
        last = (self.events - 1) * self.every
        if last >= self.epochs:
            raise InputError(
                f"{self.events} events, {self.every} epochs apart, need more than {last} epochs, "
                f"so that one comes after the last; epochs is {self.epochs}. Give more epochs, or "
                "fewer events."
            )
        self._check_ranges()
        for name, known in (("optimizer", OPTIMIZERS), ("augmentation", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"Unknown {name} {getattr(self, name)!r}. "
                    f"{nearest(str(getattr(self, name)), known)}"
                )
        if not isinstance(self.restarts, bool):
            raise InputError(f"restarts is {self.restarts!r}; give True or False.")

    def _check_ranges(self) -> None:
        for name, low, high, ends in (
            ("initial", 0.0, 1.0, "[)"),
            ("rate", 0.0, math.inf, "()"),
            ("final_rate", 0.0, 1.0, "[]"),
            ("warm_up", 0.0, math.inf, "[)"),
            ("momentum", 0.0, 1.0, "[)"),
            ("weight_decay", 0.0, math.inf, "[)"),
            ("clip", 0.0, math.inf, "()"),
            ("label_smoothing", 0.0, 1.0, "[)"),
            ("distillation", 0.0, 1.0, "[]"),
            ("temperature", 0.0, math.inf, "()"),
        ):
            value = getattr(self, name)
            if name == "clip" and value is None:
                continue
            meaning = f"in {ends[0]}{low:g}, {high:g}{ends[1]}"
            number = real_number(name, value, meaning=meaning)
            below = number < low or (number == low and ends[0] == "(")
            if below or number > high or (number == high and ends[1] == ")"):
                raise InputError(f"{name} is {value!r}; give a number {meaning}.")

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

    def optimizer_of(self, weights: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return a new optimizer of weights that are trained."""
        decayed = [weight for weight in weights if weight.ndim > 1]
        free = [weight for weight in weights if weight.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.rate)
        momentum = self.momentum
        return torch.optim.SGD(groups, lr=self.rate, momentum=momentum, nesterov=momentum > 0)
