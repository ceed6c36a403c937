"""The loss of a network on the samples held out, at weights that are tried."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from chita import nested
from chita.data.examples import Examples
from chita.errors import NumericalError
from chita.layout import Layout
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.models.prunable import write_weights
from chita.pruning.samples import Sampling
from chita.training.batch_norm import batch_statistics, equal_batches

_AT_ONCE = 500  # samples


def lower(loss: float, other: float) -> float:
    """Return the lower one of two losses, the `other` where that is the only finite one."""
    return loss if not math.isfinite(other) or loss < other else other


@final
class Judge:
    """Tells the mean loss on the samples held out.

    Args:
        network: in eval mode; its weights are those that were judged last.
        layout: the weights that are tried.
        held: the samples, on the network's device.
        sampling: says what the loss is.
        normed: the statistics of batch norms may be estimated anew: the loss is the lower one, of
            those that the network has and of those of these samples.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        held: Examples,
        sampling: Sampling,
        *,
        normed: bool,
    ) -> None:
        self._network, self._layout, self._held = network, layout, held
        self._loss = sampling.loss_for(held.parts[0])
        self._normed = normed

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._held)

    def __call__(self, weights: Tensor) -> float:
        """Write weights (p,), and return the loss; infinite where their type cannot hold them."""
        try:
            write_weights(self._network, self._layout, weights)
        except NumericalError:
            return math.inf
        loss = self.loss()
        if not self._normed:
            return loss
        with batch_statistics(self._network):
            return lower(self.loss(), loss)

    def check(self) -> None:
        """Raise `InputError`, which names the module, where the network or the loss fails."""
        sample = nested.map_tensors(torch.clone, next(self._held.batches(1)))
        with (
            state_kept(self._network),
            torch.no_grad(),
            failures_named(self._network, sample),
        ):
            self._loss.mean(self._network, sample)

    def loss(self) -> float:
        """Return the loss of the network as it is, its batch norms with their own statistics."""
        total = 0.0
        with state_kept(self._network), torch.no_grad():
            for batch in equal_batches(self._held, _AT_ONCE):
                loss = float(self._loss.mean(self._network, nested.map_tensors(torch.clone, batch)))
                total += loss * (nested.count(batch) or 1)
        return total / len(self._held)
