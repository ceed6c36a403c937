"""The loss of a network on validation samples, at weights that are tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import Examples, size_of
from chita.errors import NumericalError
from chita.layout import Layout
from chita.losses import Loss
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.models.prunable import write_weights
from chita.progress import Progress, Silent, track
from chita.training.batch_norm import batch_statistics
from chita.training.together import Together

_MEASURED_AT_ONCE = 500  # samples


@final
class ValidationLoss:
    """The mean loss of a network on validation samples, at weights that are tried.

    Args:
        network: in eval mode; its weights are those that were tried last.
        layout: the weights that are tried.
        samples: on the network's device.
        loss: of the samples.
        renewable: the statistics of batch norms may be estimated again: the loss is the lower one,
            of those that the network has and of those of these samples.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        samples: Examples,
        loss: Loss,
        *,
        renewable: bool,
    ) -> None:
        self._network, self._layout, self._samples = network, layout, samples
        self._loss, self._renewable = loss, renewable
        least = 2 if renewable else 1
        self._together = Together(network, self._mean, most=_MEASURED_AT_ONCE, least=least)

    @property
    def name(self) -> str:
        """Name of the loss."""
        return self._loss.name

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __call__(self, weights: Tensor, progress: Progress | None = None) -> float:
        """Write weights (p,), and return the loss; infinite where their type cannot hold them."""
        total = len(self) * (1 + self._renewable)
        with track(progress or Silent(), "validation loss", total, "samples") as shown:
            return self._at(weights, shown.advance)

    def _at(self, weights: Tensor, advance: Callable[[int], None]) -> float:
        try:
            write_weights(self._network, self._layout, weights)
        except NumericalError:
            return math.inf
        loss = self.present(advance)
        if not self._renewable:
            return loss
        with batch_statistics(self._network):
            return lower(self.present(advance), loss)

    def check(self) -> None:
        """Raise `InputError`, which names the module, where the network or the loss fails."""
        sample = next(self._samples.batches(1))
        with (
            state_kept(self._network),
            torch.no_grad(),
            failures_named(self._network, sample),
        ):
            self._mean(sample)

    def present(self, advance: Callable[[int], None] = lambda _: None) -> float:
        """Return the loss of the network as it is, its batch norms with their own statistics.

        `advance` is told the samples of each batch.
        """
        with state_kept(self._network), torch.no_grad():
            return self._together.whole(partial(self._over_all, advance))

    def _over_all(self, advance: Callable[[int], None]) -> float:
        total = 0.0
        for batch in self._together.equal(self._samples):
            total += self._mean(batch) * size_of(batch)
            advance(size_of(batch))
        return total / len(self._samples)

    def _mean(self, batch: Any) -> float:
        with failures_named(self._network, batch):
            return float(self._loss.mean(self._network, nested.copied(batch)))


def lower(loss: float, other: float) -> float:
    """Return the lower one of two losses, the `other` where that is the only finite one."""
    return loss if not math.isfinite(other) or loss < other else other
