"""Whether samples are what batches are cut into, and rows their parts in the loss of a batch."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import cut, size_of
from chita.errors import InputError
from chita.losses import CustomLoss, Loss, OutputLoss
from chita.losses.outputs import split
from chita.losses.whole import OwnLoss
from chita.models.forward import outputs_of
from chita.models.mode import inference

_ENTRIES, _NUMBERS = 1 << 20, 1 << 12  # of a batch that is run whole: in all, of whole numbers
_TOGETHER, _COMPARED = 4, 256  # rows in a batch whose loss is compared, and in all of them
_ROUNDING = 1e-4  # relative, of a loss in 32 bits whose terms come in another order
_ROUNDING_OF_HALVES = 2e-2
_MANY_ROUNDINGS = 5  # the largest of all outputs is further off than their mean loss
_UNLIKE = 1e-2  # relative, of a loss by which rows are not its parts


def check_order(model: nn.Module, loss: Loss, batch: Any, samples_per_gradient: int) -> None:
    """Raise `InputError` where the loss depends on the order of what is taken for samples.

    The first dimension then runs over something else: over time, or over the queries of a mask
    that all samples share. Two rows of the batch are run, or all where the number of samples is
    another size in it, too. A network that fails on that is not judged here.
    """
    count = nested.count(batch)
    if count is None or count < 2 * samples_per_gradient:
        return
    if not _whole(batch, count):
        batch = next(cut(batch, 2 * samples_per_gradient))
    device = next(model.parameters()).device
    batch = nested.map_tensors(lambda t: t.to(device), batch)
    places = [place for place, _ in nested.named(batch)]

    def rolled(*fixed: str) -> Tensor | None:
        left = iter(places)
        order = torch.arange(size_of(batch), device="cpu").roll(samples_per_gradient)

        def turned(leaf: Any) -> Any:
            all_stay = len(fixed) == len(places)
            stays = next(left) in fixed if isinstance(leaf, Tensor) else all_stay
            return leaf if stays else nested.taken(leaf, order)

        return _loss(model, loss, nested.map_leaves(turned, batch))

    given, share = rolled(*places), _rounding(model)
    if not _differ(given, rolled(), share) or _differ(given, rolled(*places), share):
        return
    shared = [place for place in places if not _differ(given, rolled(place), share)]
    of = "its entries"
    if len(places) > 1 and shared:
        of = f"the entries of {shared[0]}, whose first size is the number of samples by chance"
    raise InputError(
        f"The loss of a batch, {nested.described(batch)}, depends on the order of {of}: that "
        "dimension does not run over samples. Samples must come first in every tensor. What all "
        "of them share belongs into the network or the loss; or give the same tensor in all "
        "batches of a list, each of which is then one sample."
    )


def _whole(batch: Any, count: int) -> bool:
    """Return whether the number of samples may be that of something else, and all can run."""
    found = list(nested.tensors(batch))
    numbers = max((t.numel() for t in found if not t.is_floating_point()), default=0)
    small = sum(t.numel() for t in found) <= _ENTRIES and numbers <= _NUMBERS
    return small and any(count in tensor.shape[1:] for tensor in found)


@final
class OrderCheck:
    """The check of the order of samples, made once for all parts of a run (`check_order`)."""

    def __init__(self) -> None:
        self._made = False

    def __call__(self, model: nn.Module, loss: Loss, batch: Any, samples_per_gradient: int) -> None:
        """Check a batch, the first time."""
        if not self._made:
            check_order(model, loss, batch, samples_per_gradient)
            self._made = True


@final
class PartsCheck:
    """A comparison of rows with batches of them: of their losses, for those of users, or outputs.

    Weights of classes cancel where a mean of one sample is divided by its own weight. Outputs
    differ where samples see each other, as where a network normalises over the batch; those of one
    small batch are compared.
    """

    def __init__(self, model: nn.Module, loss: Loss, samples_per_gradient: int) -> None:
        self._model, self._loss, self._size = model, loss, samples_per_gradient
        self._left = _COMPARED if isinstance(loss, CustomLoss) else 0
        self._outputs_left = isinstance(loss, (OutputLoss, OwnLoss))

    def compare(self, losses: Tensor, batch: Any) -> None:
        """Warn, once, where a batch is not what its rows, with these losses (r,), are alone."""
        if len(losses) < 2:
            return
        if self._outputs_left:
            self._outputs_left = False
            self._compare_outputs(next(cut(batch, _TOGETHER * self._size)))
        if self._left <= 0:
            return
        for part, own in zip(
            cut(batch, _TOGETHER * self._size), losses.split(_TOGETHER), strict=True
        ):
            found = _loss(self._model, self._loss, part)
            share = max(_UNLIKE, _rounding(self._model))
            unlike = found is not None and _differ(found, own.mean(), share)
            self._left = 0 if found is None or unlike else self._left - len(own)
            if unlike:
                warnings.warn(_CANCELLED.format(self._loss.name), stacklevel=2)
            if self._left <= 0:
                return

    def _compare_outputs(self, batch: Any) -> None:
        with suppress(Exception), inference(self._model):  # a network may take no such batch
            alone = torch.cat([self._outputs(part) for part in cut(batch, self._size)])
            found = self._outputs(batch)
            share = max(_UNLIKE, _MANY_ROUNDINGS * _rounding(self._model))
            unlike = float((found - alone).abs().max()) > share * float(found.abs().max())
            if unlike:
                warnings.warn(_SEEN, stacklevel=2)

    def _outputs(self, batch: Any) -> Tensor:
        batch = nested.copied(batch)
        if isinstance(self._loss, OwnLoss):
            logits: Tensor = self._loss.called(self._model, batch)[1]
            return logits
        return outputs_of(self._model, split(batch)[0])


_SEEN = (
    "The network gives samples other outputs together than alone: they see each other, and "
    "gradients are those of samples alone. Give `samples_per_gradient` as many as run together."
)
_CANCELLED = (
    "The loss {} of a batch is not the mean of the losses of its samples: weights of classes, or "
    "numbers of tokens, cancel in gradients of single samples. Give each sample its own part, as "
    'in (cross_entropy(outputs, targets, reduction="none") * weights[targets]).mean().'
)


def _loss(model: nn.Module, loss: Loss, batch: Any) -> Tensor | None:
    """Return the loss of a batch, None where it fails or is not finite."""
    with suppress(Exception), inference(model):  # code of users may raise anything
        found = loss.mean(model, nested.copied(batch)).detach()
        return found if bool(found.isfinite()) else None
    return None


def _differ(a: Tensor | None, b: Tensor | None, share: float) -> bool:
    """Return whether two losses are known and differ by more than rounding."""
    if a is None or b is None:
        return False
    return float((a - b).abs()) > share * (float(a.abs()) + 0.1)


def _rounding(model: nn.Module) -> float:
    halves = any(p.is_floating_point() and p.dtype.itemsize < 4 for p in model.parameters())
    return _ROUNDING_OF_HALVES if halves or torch.is_autocast_enabled() else _ROUNDING
