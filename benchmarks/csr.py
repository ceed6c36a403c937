"""From which sparsity on linear layers are faster sparse in PyTorch, by the number of samples.

Usage: python benchmarks/csr.py
Square linear layers with zeros at random places, one thread, all forms in turns, medians. The
break-even is where time over dense time crosses 1, straight between the sparsities measured.
Then perceptrons of four such layers as `torch-csr` chooses them, against themselves dense. Writes
benchmarks/results/csr.json and csr.png.
"""

import copy
import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import torch
from torch import nn

from chita.machine import processor
from chita.records import versions
from chita.runtimes.csr import CSR, DENSE, Choice, choose, in_forms
from chita.runtimes.inputs import inputs_of
from chita.runtimes.pytorch import loaded
from chita.runtimes.timing import load, one_thread, side_by_side

mpl.use("agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
BATCHES = (1, 4, 16, 64, 256)
SIZES = (256, 1024, 2048)


def sparse_layer(size, sparsity):
    """A linear layer of which so many weights are zero."""
    layer = nn.Linear(size, size)
    places = torch.randperm(layer.weight.numel())[: round(sparsity * layer.weight.numel())]
    layer.weight.detach().view(-1)[places] = 0
    return layer


def measured(size, batch):
    """Sparse over dense time, and over that of PyTorch's own layer, at every sparsity."""
    found = []
    given = torch.randn(batch, size)
    for sparsity in SPARSITIES:
        layer = sparse_layer(size, sparsity)
        holder = nn.Sequential(layer)
        ours = in_forms(holder, (Choice(layer="0", form=CSR, seconds={}),))[0]
        own = nn.Linear(size, size)
        own.weight = nn.Parameter(ours.weight.detach(), requires_grad=False)
        runs = {"dense": layer, "csr": ours, "torch's own": own}
        times = side_by_side({name: partial(run, given) for name, run in runs.items()}, 1.0)
        dense = times["dense"].median
        found.append({
            "sparsity": sparsity,
            "ms": {name: 1000 * t.median for name, t in times.items()},
            "ratio": {name: t.median / dense for name, t in times.items()},
        })
    return found


def break_even(lines):
    """The sparsity at which CSR takes as long as dense, None where it never does."""
    points = [(line["sparsity"], line["ratio"]["csr"]) for line in lines]
    if points[0][1] <= 1:
        return points[0][0]
    for (a, above), (b, below) in pairwise(points):
        if above > 1 >= below:
            return a + (above - 1) / (above - below) * (b - a)
    return None


def chosen(size, batch, sparsity):
    """A network as it is chosen, over itself dense."""
    layers = [part for _ in range(4) for part in (sparse_layer(size, sparsity), nn.ReLU())]
    network, inputs = nn.Sequential(*layers).eval(), inputs_of(torch.randn(batch, size))
    choices = choose(network, inputs)
    runs = {
        "dense": loaded(copy.deepcopy(network), inputs),
        "chosen": loaded(in_forms(network, choices), inputs),
    }
    times = side_by_side({name: partial(run.run, inputs) for name, run in runs.items()}, 2.0)
    return {
        "sparsity": sparsity,
        "sparse layers": sum(choice.form != DENSE for choice in choices),
        "ratio": times["chosen"].median / times["dense"].median,
    }


def plot(found):
    """The break-even by the number of samples, a line for every size."""
    figure, axis = plt.subplots(figsize=(7, 4.5))
    for size in SIZES:
        points = [(b, found[f"{size}, batch {b}"]["break-even"]) for b in BATCHES]
        shown = [(b, 100 * s) for b, s in points if s is not None]
        axis.plot(*zip(*shown, strict=True), marker="o", label=f"{size} x {size}")
    axis.set_xscale("log", base=2)
    axis.set_xticks(BATCHES, BATCHES)
    axis.set(
        title="CSR is faster above the line",
        xlabel="samples at a time",
        ylabel="zeros at break-even, per cent",
        ylim=(45, 100),
    )
    axis.grid(alpha=0.3)
    axis.legend(title="linear layer")
    figure.savefig(RESULTS / "csr.png", dpi=120, bbox_inches="tight")


def summary(found):
    """The slowest network with a sparse layer; and what is measured where none was chosen.

    The latter is a network against a copy of itself, which differs by noise alone.
    """
    networks = [network for case in found.values() for network in case["networks"]]
    sparse = [network["ratio"] for network in networks if network["sparse layers"]]
    same = [network["ratio"] for network in networks if not network["sparse layers"]]
    return {"worst": max(sparse), "noise": [min(same), max(same)]}


def main():
    """Measure, print and write."""
    torch.manual_seed(0)
    found = {}
    begun = load()
    with one_thread(), torch.no_grad():
        for size in SIZES:
            for batch in BATCHES:
                lines = measured(size, batch)
                networks = [chosen(size, batch, s) for s in SPARSITIES]
                case = {"break-even": break_even(lines), "layers": lines, "networks": networks}
                found[f"{size}, batch {batch}"] = case
                print(f"{size} x {size}, batch {batch}: break-even {case['break-even']}")
    done = {
        "load": [begun, load()],
        "processor": processor(),
        "versions": versions(),
        **summary(found),
        "cases": found,
    }
    (RESULTS / "csr.json").write_text(json.dumps(done, indent=1) + "\n")
    plot(found)
    print(f"sparse networks take at most {done['worst']:.3f} of the dense time")
    print(f"those left dense, against copies of themselves: {done['noise']}")


if __name__ == "__main__":
    main()
