"""Running statistics of batch norms, which go stale when weights change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import Examples, size_of
from chita.errors import NumericalError
from chita.losses import Loss
from chita.models.forward import failures_named
from chita.models.mode import attributes_set, evaluation_mode, state_kept
from chita.training.together import Together

_BATCH = 250


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch norms, of any dimension, that keep running statistics.

    Those that wait for other processes (`SyncBatchNorm`) are left out.
    """
    return [
        module  # type: ignore[misc]
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm)
        and module.running_mean is not None
    ]


def recalibrate(
    model: nn.Module,
    samples: Examples,
    loss: Loss,
    advance: Callable[[int], None] = lambda _: None,
) -> Callable[[], None]:
    """Estimate the running statistics from samples, in place; all else is in eval mode.

    Means and variances (unbiased, within a batch) are averaged over batches of one size, about
    250 samples, or as many as memory allows (`Together`). `advance` is told the samples of each.
    Return what puts the statistics of before back; on an error they are not touched.

    Raises `NumericalError`, which names the batch norm, where they are not finite.
    """
    norms = batch_norms(model)
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    # Without a momentum, statistics of batches are averaged with equal weights.
    with state_kept(model), attributes_set(norms, "momentum", None):
        _run(model, samples, loss, advance)
        _check_finite(model, norms)
        fresh = [buffer.clone() for buffer in buffers]
    before = [buffer.clone() for buffer in buffers]
    _write(buffers, fresh)
    return lambda: _write(buffers, before)


def _run(model: nn.Module, samples: Examples, loss: Loss, advance: Callable[[int], None]) -> None:
    """Show the network all samples, its batch norms in training mode, with no statistics before."""
    norms = batch_norms(model)

    def shown_to(batch: Any) -> None:
        copied = nested.copied(batch)
        with failures_named(model, batch):
            loss.run(model, copied)  # targets, if any, do not matter

    together = Together(model, shown_to, most=_BATCH, least=2)

    def estimated() -> None:
        for norm in norms:
            norm.reset_running_stats()
        for batch in together.equal(samples):
            shown_to(batch)
            advance(size_of(batch))

    with evaluation_mode(model), attributes_set(norms, "training", True), torch.no_grad():
        together.whole(estimated)


def _write(buffers: list[Tensor], values: list[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


def _check_finite(model: nn.Module, norms: list[nn.BatchNorm2d]) -> None:
    for name, module in model.named_modules():
        if module in norms and not all(bool(b.isfinite().all()) for b in module.buffers()):
            raise NumericalError(
                f"The statistics of batch norm {name!r}, estimated again, are not finite: "
                "samples are not, or what layers before it make of them. Look at the calibration "
                "data, or turn `bn_recalibrate` off."
            )


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of each batch for a block: as if recalibrated on it."""
    norms = attributes_set(batch_norms(model), "training", True)
    with state_kept(model), evaluation_mode(model), norms:
        yield
