"""The times that a plan predicts, from a measured speed of this machine."""

from __future__ import annotations

from chita.collect.cost import Cost
from chita.data.batches import Data, Indexed
from chita.data.examples import as_examples
from chita.machine import EFFICIENCY, speed
from chita.pruning.calibration import Sampling
from chita.solvers import Solver
from chita.training.recipe import Training

_STARTED = 0.02  # seconds of checks, and of choosing ways


def collect_seconds(sampling: Sampling, cost: Cost | None, n: int) -> float | None:
    """Seconds of collecting n gradients, None where no sample shows what the network costs."""
    if not n or cost is None:
        return None if n else 0.0
    samples = n * sampling.fisher.samples_per_gradient
    return _STARTED + 3 * cost.flops * samples / (EFFICIENCY * speed().flops)


def solve_seconds(solver: Solver, n: int, p: int, k: int) -> float:
    """Seconds of a solve by n gradients of p weights, of which k are kept."""
    if not n:
        return 0.0
    machine = speed()
    stream = 4 * n * p / machine.stream
    # A Gram on the smaller side, and a Cholesky factorisation of it in float64.
    small, large = sorted((n, k))
    system = 2 * small**2 * large / machine.flops + small**3 / 3 / (machine.flops / 4)
    return solver.effort.streams * stream + solver.effort.systems * system


def train_seconds(training: Training | None, data: Data | None, cost: Cost | None) -> float | None:
    """Seconds of all epochs, a backward pass being two forward ones."""
    if training is None:
        return 0.0
    indexed = as_examples(data) or data
    if cost is None or not isinstance(indexed, Indexed):
        return None
    samples = training.epochs * len(indexed)
    return 3 * cost.flops * samples / (EFFICIENCY * speed().flops)


def evaluate_seconds(
    samples: int | None, training: Training | None, cost: Cost | None
) -> float | None:
    """Seconds of measuring dense and pruned, and each event and epoch, on so many samples.

    None where these, or what a sample costs, are not known.
    """
    if samples == 0:
        return 0.0
    if samples is None or cost is None:
        return None
    times = 2 if training is None else 2 + training.events + training.epochs
    return times * samples * cost.flops / (EFFICIENCY * speed().flops)
