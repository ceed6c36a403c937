"""What holding masks costs: an epoch of training with them against one without, in one run.

Usage: python benchmarks/masks.py
ResNet20 on images of 32 x 32 and a perceptron of 1024-wide layers, random data, batches of 128, by
SGD with momentum and by AdamW. Epochs with and without masks (half of the weights) take turns; the
time of a pair is compared, and the median over pairs is told. Writes benchmarks/results/masks.json.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from chita.data.examples import Examples
from chita.data.sampler import make_sampler
from chita.losses import make_loss
from chita.masks.enforce import Enforcer
from chita.models.paper.resnet20 import ResNet20
from chita.progress import Silent
from chita.records import versions
from chita.training.fine_tune import FineTuner
from chita.training.recipe import Training

RESULTS = Path(__file__).parent / "results"
PAIRS, BATCH = 15, 128


def perceptron():
    """Three layers of 1024."""
    return nn.Sequential(
        nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )


NETWORKS = {
    "ResNet20": (ResNet20, (3, 32, 32), 6),
    "perceptron, 1024 wide": (perceptron, (1024,), 16),
}


def tuner(network, shape, batches, optimizer):
    """What trains a network on random samples."""
    pair = torch.randn(batches * BATCH, *shape), torch.randint(10, (batches * BATCH,))
    return FineTuner(
        network,
        make_sampler(Examples(pair), seed=0),
        Training(epochs=1, events=1, batch=BATCH, optimizer=optimizer, rate=1e-3),
        make_loss(None, pair),
        seed=0,
        teacher=None,
        progress=Silent(),
    )


def seconds(own):
    """Of one epoch."""
    began = time.perf_counter()
    own.epoch(0, 0.0)
    return time.perf_counter() - began


def measured(make, shape, batches, optimizer):
    """The ratio of epochs with masks to those without, pair by pair."""
    torch.manual_seed(0)
    free, held = make(), make()
    masks = {
        name: torch.rand(weight.shape) > 0.5
        for name, weight in held.named_parameters()
        if weight.ndim > 1
    }
    with torch.no_grad():  # both train the same numbers
        for network in (free, held):
            Enforcer(network, masks)
    without, within = (tuner(net, shape, batches, optimizer) for net in (free, held))
    within.hold(masks)
    pairs = []
    for pair in range(PAIRS + 1):
        order = [without, within] if pair % 2 else [within, without]
        spent = {id(own): seconds(own) for own in order}
        if pair:  # the first warms up
            pairs.append((spent[id(within)], spent[id(without)]))
    return {
        "weights": sum(mask.numel() for mask in masks.values()),
        "steps": batches,
        "seconds_without": statistics.median(w for _, w in pairs),
        "ratio": statistics.median(m / w for m, w in pairs),
        "ratios": [m / w for m, w in pairs],
    }


def main():
    """Measure, print, write."""
    results = []
    for name, (make, shape, batches) in NETWORKS.items():
        for optimizer in ("sgd", "adamw"):
            line = {"network": name, "optimizer": optimizer}
            line |= measured(make, shape, batches, optimizer)
            results.append(line)
            print({key: value for key, value in line.items() if key != "ratios"}, flush=True)
    content = {"about": __doc__, "environment": versions(), "results": results}
    (RESULTS / "masks.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
