"""Losses: the table of names, and what users may give instead of a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from chita.errors import InputError
from chita.imports import imported, is_import
from chita.losses.loss import Loss, Measure
from chita.losses.outputs import (
    CrossEntropy,
    MeanSquaredError,
    NegativeLogLikelihood,
    OutputLoss,
)
from chita.losses.whole import CustomLoss, OwnLoss
from chita.naming import nearest

LossLike = str | Loss | Callable[[nn.Module, Any], Tensor] | None
"""A name, a loss, a function (model, batch) -> mean loss, or None for the batch's own kind."""

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (CrossEntropy(), NegativeLogLikelihood(), MeanSquaredError(), OwnLoss())
}
"""Every named loss. `model` is the one that the network returns for a dict."""

__all__ = [
    "LOSSES",
    "CustomLoss",
    "Loss",
    "LossLike",
    "Measure",
    "OutputLoss",
    "check_loss",
    "make_loss",
    "named_loss",
]


def check_loss(loss: LossLike) -> None:
    """Raise `InputError` when this is no loss."""
    if isinstance(loss, str) and loss not in LOSSES:
        raise InputError(f"Unknown loss {loss!r}. {nearest(loss, LOSSES)}")
    if isinstance(loss, nn.Module):
        raise InputError(
            f"`loss` is a {type(loss).__name__} of outputs and targets; give a name "
            f"({', '.join(LOSSES)}) or a function (model, batch) that calls it."
        )
    if not (loss is None or isinstance(loss, (str, Loss)) or callable(loss)):
        raise InputError(
            f"`loss` is {loss!r}; give a name ({', '.join(LOSSES)}) or a function (model, batch)."
        )


def named_loss(name: str | None) -> LossLike:
    """Return the loss of a name, or the function that "package.module:function" names.

    Raises `InputError` when the name is not known.
    """
    loss = imported(name) if name and is_import(name) else name
    check_loss(loss)
    return loss


def make_loss(loss: LossLike, batch: Any) -> Loss:
    """Return the loss that is meant.

    None is the network's own for a dict (`model(**batch).loss`), and cross-entropy for a pair.

    Raises `InputError` when `loss` is no loss.
    """
    check_loss(loss)
    if loss is None:
        return LOSSES["model" if isinstance(batch, Mapping) else "cross_entropy"]
    if isinstance(loss, str):
        return LOSSES[loss]
    return loss if isinstance(loss, Loss) else CustomLoss(loss)
