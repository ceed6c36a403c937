"""Epochs of training under masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import size_of
from chita.data.sampler import Sampler
from chita.errors import ChitaError, InputError
from chita.imports import cause
from chita.losses import Loss, OutputLoss
from chita.masks.enforce import Enforcer
from chita.models.forward import failures_named
from chita.models.mode import inference, state_kept, training_flags
from chita.progress import Progress, track
from chita.training.augment import crop_flip
from chita.training.channels_last import (
    channels_last,
    in_channels_last,
    trains_in_channels_last,
)
from chita.training.objective import Objective
from chita.training.recipe import Training

DIVERGED = 10.0
"""Training has diverged when a batch's loss is no finite number, or above so many times 1 + L, with
L the largest mean of an epoch before and the loss of the epoch's first batch."""

_OPTIMIZER = "optimizer."


class Diverged(Exception):
    """Training that has diverged; the message says where."""


def optimizer_of(training: Training, weights: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return a new optimizer of weights that are trained; only matrices and filters decay."""
    decayed = [weight for weight in weights if weight.ndim > 1]
    free = [weight for weight in weights if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.rate)
    momentum = training.momentum
    return torch.optim.SGD(groups, lr=training.rate, momentum=momentum, nesterov=momentum > 0)


@final
class FineTuner:
    """Training of a network in place, epoch by epoch, under whatever masks it is given.

    Each epoch is a function of the weights, the optimizer's state and its own number: the order of
    samples, augmentation and dropout are drawn by `seed` and the number only.

    Args:
        network: all its parameters that require gradients are trained, in train mode.
        sampler: the samples.
        training: the recipe.
        loss: of network and samples.
        seed: see above.
        teacher: the dense network, for distillation.
        progress: gets every batch.

    Raises:
        InputError: nothing can be trained, or the recipe does not fit the loss.
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Sampler,
        training: Training,
        loss: Loss,
        *,
        seed: int,
        teacher: nn.Module | None,
        progress: Progress,
    ) -> None:
        self._network, self._sampler, self._training = network, sampler, training
        self._objective = Objective(loss, training, teacher)
        self._seed, self._progress = seed, progress
        self._trained = [p for p in network.parameters() if p.requires_grad]
        if not self._trained:
            raise InputError(
                "No parameter of the network requires a gradient, so there is nothing to train. "
                "Call network.requires_grad_()."
            )
        self._optimizer = optimizer_of(training, self._trained)
        self._enforcer: Enforcer | None = None
        self._steps = sampler.batches(training.batch)
        self._device = self._trained[0].device
        few = sampler.some(2).to(self._device).parts[0]
        if isinstance(loss, OutputLoss):
            with inference(network), failures_named(network, few):
                loss.measure(network, nested.copied(few))
        self._channels_last = trains_in_channels_last(network, loss, few)
        self._check_loss(max(sampler.some(training.batch).parts, key=size_of))

    def _check_loss(self, batch: Any) -> None:
        """Raise `InputError` where the network has no loss to train by, as in eval mode it has."""
        name = type(self._network).__name__
        try:
            with state_kept(self._network), self._training_mode(0):
                loss = self._loss_of(batch)
                if loss.requires_grad:
                    loss.backward()
                reached = any(weight.grad is not None for weight in self._trained)
        except Exception as error:  # train() and the forward pass are the user's code
            why = str(error) if isinstance(error, ChitaError) else cause(error)
            raise InputError(f"{name} cannot be trained. In train mode: {why}") from error
        if not reached:
            raise InputError(
                f"{name} cannot be trained: in train mode its loss has no gradient. Is its forward "
                "pass under no_grad, or detached, or the loss that of another network than the "
                "one it is called with?"
            )

    def hold(self, masks: Mapping[str, Tensor]) -> None:
        """Train under these masks from now on."""
        if self._enforcer is not None:
            self._enforcer.detach()
        self._enforcer = Enforcer(self._network, masks)
        self._enforcer.attach(self._optimizer)

    def epoch(self, number: int, largest: float) -> float:
        """Train for one epoch (from 0) and return the mean loss over its batches.

        `largest` is the largest mean of an epoch before, 0 for the first.

        Raises `Diverged`, see `DIVERGED`.
        """
        total, seen = 0.0, 0
        what = f"epoch {number + 1} of {self._training.epochs}"
        with (
            self._training_mode(number),
            track(self._progress, what, self._steps, "batches"),
        ):
            for step, batch in enumerate(self._sampler.epoch(number, self._training.batch)):
                rate = self._training.rate_at(number + min(step / self._steps, 1 - 1e-9))
                value = self._step(batch, rate)
                largest = largest if step else max(largest, value)
                if not math.isfinite(value) or value > DIVERGED * (1 + largest):
                    raise Diverged(f"epoch {number + 1}, batch {step + 1}: the loss is {value:.4g}")
                total, seen = total + value, seen + 1
                self._progress.advance(1)
        if not all(bool(torch.isfinite(weight).all()) for weight in self._trained):
            raise Diverged(f"epoch {number + 1}: weights are not finite")
        return total / seen

    def _step(self, batch: Any, rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss = self._loss_of(batch)
        loss.backward()
        self._densify()
        if self._training.clip is not None:
            nn.utils.clip_grad_norm_(self._trained, self._training.clip)
        self._optimizer.step()
        return float(loss.detach())

    def _loss_of(self, batch: Any) -> Tensor:
        # Copied, since a network may write into it.
        batch = nested.copied(batch, lambda t: t.to(self._device, copy=True))
        if self._training.augmentation == "crop-flip":
            batch = crop_flip(batch)
        if self._channels_last:
            batch = in_channels_last(batch)
        try:
            return self._objective.mean(self._network, batch)
        except Exception:  # a forward pass is the user's code and may raise anything
            with failures_named(self._network, batch):
                self._objective.mean(self._network, batch)
            raise

    def _densify(self) -> None:
        """Make sparse gradients, as embeddings may have, dense: for norms and most optimizers."""
        for weight in self._trained:
            if weight.grad is not None and weight.grad.is_sparse:
                weight.grad = weight.grad.to_dense()
                if self._enforcer is not None:
                    self._enforcer.mask_gradients()

    @contextmanager
    def _training_mode(self, number: int) -> Iterator[None]:
        """Train with gradients and this epoch's own random numbers, for a block."""
        devices = [] if self._device.type == "cpu" else [self._device]
        with (
            torch.random.fork_rng(devices, device_type=self._device.type),
            torch.enable_grad(),
            channels_last(self._network) if self._channels_last else nullcontext(),
            training_flags(self._network, training=True),
        ):
            torch.manual_seed((self._seed + 7_368_787 * (number + 1)) % 2**63)
            try:
                yield
            finally:
                self._optimizer.zero_grad()
                self._straighten()

    def _straighten(self) -> None:
        """Lay the optimizer's state out as a run does that goes on from a file."""
        for values in self._optimizer.state.values():
            for value in values.values():
                if isinstance(value, Tensor):
                    value.data = value.contiguous()

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer's state as named tensors."""
        return {
            f"{_OPTIMIZER}{index}.{name}": value.detach().cpu()
            for index, values in self._optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if isinstance(value, Tensor)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the optimizer the state that `tensors` returned."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, own = name.removeprefix(_OPTIMIZER).partition(".")
            state.setdefault(int(index), {})[own] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
