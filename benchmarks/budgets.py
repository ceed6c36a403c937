"""How long `select` takes under every budget, on networks of the papers' sizes.

Usage: python benchmarks/budgets.py
Writes benchmarks/results/budgets.json. Values are the networks' initial weights (whose scale
differs from layer to layer), costs are counted in one forward pass of an image. Medians of five
runs after one that does not count; `ratio` is to the plain top-k of the same sparsity in the same
process. Under FLOPs, `short` is by what share the sum of squares could be larger at most, by the
dual bound.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from chita.collect.cost import with_operations
from chita.constraints import AtLeastNofM, Blocks, Flops, NofM, PerLayer, PerOutput, Sparsity
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout, read_weights
from chita.models.zoo import find_model

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("mobilenet-v1", "resnet50")
BUDGETS = {
    "top-k": Sparsity(0.8, min_keep=0),
    "floors": Sparsity(0.8),
    "per layer, erk": PerLayer(0.8, distribution="erk"),
    "per row": PerOutput(0.8),
    "FLOPs 0.5, non-zeros 0.5": Flops(0.5) & Sparsity(0.5),
    "FLOPs 0.3, non-zeros 0.3": Flops(0.3) & Sparsity(0.7),
    "FLOPs 0.2, non-zeros 0.2": Flops(0.2) & Sparsity(0.8),
    "FLOPs 0.2": Flops(0.2),
}
SHAPED = {
    "2:4": NofM(2, 4),
    "on the way to 2:4": AtLeastNofM(pattern=NofM(2, 4), sparsity=0.4),
    "blocks 1x4": Blocks(1, 4, sparsity=0.8),
}
"""On ResNet-50 without its first layer, which has three inputs."""


def seconds(run, repeats=5):
    """Median seconds after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(name):
    """All budgets on one network."""
    torch.manual_seed(0)
    model = find_model(name).build().eval()
    layout = prunable_layout(model)
    sample = (torch.zeros(1, 3, 224, 224), torch.zeros(1, dtype=torch.long))
    began = time.perf_counter()
    layout = with_operations(layout, model, LOSSES["cross_entropy"], sample)
    counting = time.perf_counter() - began
    cases = [(label, budget, layout) for label, budget in BUDGETS.items()]
    if name == "resnet50":
        inner = prunable_layout(model, ignore=["conv1"])
        cases += [(label, budget, inner) for label, budget in SHAPED.items()]
    found, plain = [], None
    for label, budget, bound in cases:
        constraint, values = budget.bind(bound), read_weights(model, bound)
        taken = seconds(partial(constraint.select, values))
        plain = plain or taken
        mask = constraint.select(values)
        line = {"budget": label, "kept": int(mask.sum()), "seconds": taken, "ratio": taken / plain}
        if budget.counts_operations:
            total = float(values[mask].double().square().sum())
            line["short"] = constraint.ceiling(values, mask) / total - 1
            used = sum(
                cost * int(mask[at].sum())
                for cost, at in zip(layout.operations.each, layout.segments, strict=True)
            )
            line["multiply_adds"], line["allowed"] = used, constraint.limit
        found.append(line)
        print(f"{name:13s} {label:26s} {taken:7.2f} s  {line['ratio']:5.2f} of top-k", flush=True)
    return {"network": name, "p": layout.size, "counting_seconds": counting, "budgets": found}


def main():
    """Measure, print, write."""
    content = {
        "about": __doc__,
        "threads": torch.get_num_threads(),
        "results": [measure(name) for name in NETWORKS],
    }
    (RESULTS / "budgets.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
