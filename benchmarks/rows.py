"""How fast rows are collected, beside one batched backward and a loop over samples.

Usage: python benchmarks/rows.py
Writes benchmarks/results/rows.json. Each network is measured with one thread and with two, in a
fresh process each, on random samples: rows per second of `collect_gradients` (all of it, checks and
choice of ways included) in each way, of a loop over samples that copies into a preallocated (n, p)
matrix, and of one plain batched backward over the same samples, the ceiling. Medians of three runs
(of 21 below a second) after one that does not count. Getting A's memory from the system is timed
apart (`memory_seconds`) and not part of the rates: the loop has its matrix before, a batched
backward needs none, and a virtual machine gives 1 GB in anything from 0.1 to 3 s. Memory is what
the first run adds to the process, in units of A in the type it would have unfactored.

Then the products with rows that are factored beside those with A, and `chita.prune` of MLPNet on
1,000 rows by `bso`: the first call of a process, and the median of later ones.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

import chita
from chita.collect import store
from chita.collect.backends import worth_factoring
from chita.collect.gradients import collect_gradients
from chita.data.examples import Examples
from chita.losses import LOSSES
from chita.machine import large_matrix
from chita.models.prunable import prunable_layout
from chita.models.zoo import find_model
from chita.problem import DenseRows, FactoredRows

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.solvers import status

RESULTS = Path(__file__).parent / "results"
STORAGE = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Block(nn.Module):
    """A transformer encoder block of MiniLM's size, with a classifier on its mean."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(384, 384), nn.Linear(384, 384)
        self.value, self.out = nn.Linear(384, 384), nn.Linear(384, 384)
        self.first, self.second = nn.LayerNorm(384), nn.LayerNorm(384)
        self.up, self.down = nn.Linear(384, 1536), nn.Linear(1536, 384)
        self.head = nn.Linear(384, 10)

    def forward(self, x):
        """Logits of (b, positions, 384)."""
        heads = [
            layer(x).unflatten(2, (12, 32)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        ]
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = self.first(x + self.out(mixed))
        x = self.second(x + self.down(nn.functional.gelu(self.up(x))))
        return self.head(x.mean(1))


def network(name):
    """The network, its samples and the number of rows."""
    if name == "block":
        return Block().eval(), Examples((torch.randn(200, 128, 384), torch.randint(10, (200,))))
    shape, rows = {"mlpnet": ((1, 28, 28), 1000), "resnet20": ((3, 32, 32), 1000)}[name]
    model = find_model(name).build().eval()
    return model, Examples((torch.randn(rows, *shape), torch.randint(10, (rows,))))


def looped(model, layout, examples):
    """One backward per sample, into rows of an (n, p) matrix that is there before."""
    inputs, targets = examples.batch
    found = torch.empty(len(inputs), layout.size)
    weights = [model.get_parameter(name) for name in layout.names]

    def run():
        for i in range(len(inputs)):
            loss = nn.functional.cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1])
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)], out=found[i])

    return run


def batched(model, layout, examples, size=128):
    """One plain backward over all samples, in batches."""
    weights = [model.get_parameter(name) for name in layout.names]

    def run():
        for inputs, targets in examples.batches(size):
            torch.autograd.grad(nn.functional.cross_entropy(model(inputs), targets), weights)

    return run


def seconds(run, waited=(), repeats=3):
    """Median seconds, after one run that does not count; quick ones are repeated more often.

    `waited` is a list that grows by the seconds of each run that do not count.
    """
    times, kept = [], None
    while len(times) <= (repeats if max(times, default=1) > 1 else 7 * repeats):
        kept = None  # what it made is freed outside of what is timed
        before = sum(waited)
        began = time.perf_counter()
        kept = run()
        times.append(time.perf_counter() - began - (sum(waited) - before))
    del kept
    return statistics.median(times[1:])


def measure(case):
    """One way on one network."""
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    model, examples = network(case["network"])
    layout, rows = prunable_layout(model), len(examples)
    if case["way"] == "loop of samples":
        run = looped(model, layout, examples)
    elif case["way"] == "batched backward":
        run = batched(model, layout, examples)
    else:
        way, _, storage = case["way"].partition(", ")
        options = {"fastest": way, "loss": LOSSES["cross_entropy"]}
        options["storage"] = STORAGE.get(storage)

        def run():
            return collect_gradients(model, layout, examples, **options)

    waited = []
    own = store.large_matrix

    def timed(*arguments):
        began = time.perf_counter()
        matrix = own(*arguments)
        waited.append(time.perf_counter() - began)
        return matrix

    store.large_matrix = timed
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    run()
    added = status("VmHWM") - before
    size = STORAGE[storage].itemsize if case["way"].endswith(tuple(STORAGE)) else 4
    waited.clear()
    taken = seconds(run, waited)
    return {
        **case,
        "rows": rows,
        "p": layout.size,
        "seconds": taken,
        "memory_seconds": statistics.median(waited) if waited else 0.0,
        "rows_per_second": rows / taken,
        "added_mb": added / 1e6,
        "added_over_a": added / (size * rows * layout.size),
    }


def factored(threads, n=1000):
    """Products with factored rows in units of those with A, for layers of several sizes."""
    torch.set_num_threads(threads)
    found = []
    for out, width in ((4, 4), (8, 8), (16, 16), (20, 40), (10, 84), (40, 784), (384, 384)):
        rows, p = FactoredRows(torch.randn(out, n), torch.randn(width, n)), out * width
        data = large_matrix(p, n, torch.float32, torch.device("cpu"))
        dense = DenseRows(data.copy_(rows.gather(torch.arange(p))))
        products = {
            "times": (torch.randn(p).double(),),
            "transpose_times": (torch.randn(n).double(),),
            "gather": (torch.randperm(p)[: p // 10].sort().values,),
            "squared_norms": (),
        }
        own, other = (
            {name: seconds(partial(getattr(kind, name), *a)) for name, a in products.items()}
            for kind in (rows, dense)
        )
        found.append({
            "threads": threads,
            "shape": [out, width],
            "chosen": worth_factoring((out, width)),
            **{name: own[name] / other[name] for name in products},
            "all": sum(own.values()) / sum(other.values()),
        })
    return found


def end_to_end(threads):
    """`chita.prune` of MLPNet on 1,000 rows by `bso`, evaluation left out."""
    torch.set_num_threads(threads)
    model, examples = network("mlpnet")

    def run():
        return chita.prune(
            model, examples, sparsity=0.9, solver="bso", fisher=chita.Fisher(samples=1000)
        )

    began = time.perf_counter()
    run()
    first = time.perf_counter() - began
    return {"threads": threads, "first": first, "later": seconds(run)}


def in_process(case):
    """What a fresh process measures of a case."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(lines.splitlines()[-1])


SECTIONS = {"factored": factored, "end to end": end_to_end}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help="one case as JSON, measured in this process")
    parser.add_argument("--network", action="append")
    arguments = parser.parse_args()
    if arguments.case:
        case = json.loads(arguments.case)
        section = SECTIONS.get(case.get("section"))
        print(json.dumps(section(case["threads"]) if section else measure(case)))
        return
    results = []
    for name in arguments.network or ("mlpnet", "resnet20", "block"):
        for threads in (1, 2):
            rates = {}
            ways = ["batched backward", "factored", "rule", "rule, bfloat16", "rule, float16"]
            for way in [*ways, "vmap", "loop", "loop of samples"]:
                case = {"network": name, "threads": threads, "way": way}
                found = in_process(case)
                rates[way] = found["rows_per_second"]
                results.append(found)
                print(
                    f"{name:9s} {threads} threads  {way:17s} {found['rows_per_second']:9.0f} rows/s"
                    f"  {rates[way] / rates['batched backward']:6.2f} of batched  added "
                    f"{found['added_mb']:7.0f} MB = {found['added_over_a']:.2f} A",
                    flush=True,
                )
    if not arguments.network:
        others = {
            name: [in_process({"section": name, "threads": threads}) for threads in (1, 2)]
            for name in SECTIONS
        }
        content = {"about": __doc__, "results": results, **others}
        (RESULTS / "rows.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
