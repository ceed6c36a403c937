"""What zeros buy in every runtime: networks with zeros at random places, against themselves dense.

Usage: python benchmarks/runtimes.py
Zeros are drawn at random, the same share of every tensor that is pruned: runtimes are measured, not
accuracy. One thread; dense and pruned in turns, medians; `load` is of the last minute. Writes
benchmarks/results/runtimes.json, for each network and sparsity what `chita benchmark` writes, and
the table runtimes.md.
"""

import copy
import json
from pathlib import Path

import torch
from torch import nn

import chita
from chita.models.prunable import prunable_layout
from chita.models.zoo import find_model
from chita.runtimes.measured import Benchmark

RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.9, 0.95)
RUNTIMES = ("torch", "onnxruntime", "mnn", "openvino")


def perceptron():
    """Four layers of 1024 x 1024."""
    layers = [part for _ in range(4) for part in (nn.Linear(1024, 1024), nn.ReLU())]
    return nn.Sequential(*layers)


def convolutions():
    """Six 3 x 3 convolutions of 128 channels, for which dense runtimes have a faster way."""
    layers = [part for _ in range(6) for part in (nn.Conv2d(128, 128, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers)


def mobilenet():
    """MobileNetV1 for ImageNet, with its initial weights."""
    return find_model("mobilenet-v1").build()


def random_zeros(network, sparsity):
    """A copy of which so many weights of every pruned tensor are zero."""
    pruned = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    for name in prunable_layout(pruned).names:
        weight = pruned.get_parameter(name).detach().view(-1)
        places = torch.randperm(weight.numel(), generator=generator)
        weight[places[: round(sparsity * weight.numel())]] = 0
    return pruned


CASES = {
    "perceptron, batch 16": (perceptron, (16, 1024)),
    "perceptron, batch 1": (perceptron, (1, 1024)),
    "mobilenet-v1, 224 x 224": (mobilenet, (1, 3, 224, 224)),
    "3 x 3 convolutions, 28 x 28": (convolutions, (1, 128, 28, 28)),
}


def table(found):
    """Milliseconds of a call, dense and pruned, and how many times faster, for every runtime."""
    lines = [
        f"| network, share of zeros | {' | '.join(RUNTIMES)} |",
        f"|{' --- |' * (1 + len(RUNTIMES))}",
    ]
    for name, done in found.items():
        pairs = [Benchmark.model_validate(done).runtimes[i].pair for i in range(len(RUNTIMES))]
        cells = [
            f"{1000 * p.dense.median:.2f}, {1000 * p.pruned.median:.2f}: {p.speedup:.1f} ×"
            for p in pairs
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    caption = "Milliseconds of a call, dense and pruned, and how many times faster, medians:"
    return "\n".join([caption, "", *lines]) + "\n"


def main():
    """Measure, print and write."""
    found = {}
    for name, (make, shape) in CASES.items():
        torch.manual_seed(0)
        dense, inputs = make().eval(), torch.randn(shape)
        for sparsity in SPARSITIES:
            pruned = random_zeros(dense, sparsity)
            done = chita.benchmark(
                dense, pruned, inputs, runtimes=RUNTIMES, layers=False, seconds=10.0, name=name
            )
            found[f"{name}, {sparsity}"] = done.model_dump(mode="json")
            print(f"{name}, sparsity {sparsity}, load {done.load}")
            for runtime in done.runtimes:
                times = runtime.pair
                print(
                    f"  {runtime.sentence}; {1000 * times.dense.median:.2f} ms dense, "
                    f"{1000 * times.pruned.median:.2f} ms pruned"
                )
    (RESULTS / "runtimes.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "runtimes.md").write_text(table(found))


if __name__ == "__main__":
    main()
