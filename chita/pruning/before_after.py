"""What a network measures before and after work on it."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from chita.data.batches import Data
from chita.losses import LossLike
from chita.progress import Progress
from chita.pruning.result import PruneResult
from chita.records import peak_rss_mb
from chita.training.evaluate import Score, evaluate

Measure = Callable[[nn.Module], Score]
"""How good a network is."""


def measure_by(data: Data | None, loss: LossLike, progress: Progress) -> Measure | None:
    """Return what measures by the loss, as `chita.evaluate` does; None where there are no data."""
    if data is None:
        return None
    return lambda network: evaluate(network, data, loss=loss, progress=progress)


def before_and_after(
    network: nn.Module,
    measure: Measure | None,
    work: Callable[[], PruneResult],
    *,
    dense: Score | None = None,
) -> PruneResult:
    """Do work on a network, and put what was measured before and after into its record.

    Seconds by phase are then also those of `evaluate`, and of all together, `total`. `dense` is
    what the network measures, where that is known.
    """
    if measure is None:
        return work()
    began = time.perf_counter()
    dense = dense or measure(network)
    measuring = time.perf_counter() - began
    result = work()
    worked = time.perf_counter()
    pruned = measure(result.model)
    ended = time.perf_counter()
    measuring += ended - worked
    return result.described(
        metric=dense.metric,
        dense_metric=dense.value,
        pruned_metric=pruned.value,
        neighbours=pruned.neighbours,
        peak_rss_mb=peak_rss_mb(),
        seconds={**result.seconds, "evaluate": measuring, "total": ended - began},
    )
