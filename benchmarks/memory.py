"""Peak memory and time of pruning networks of ImageNet's size, beside passes over their samples.

Usage: CHITA_DATA=... PRETRAINED=... python benchmarks/memory.py [ROW]
A row is network, samples, solver, structure and `max_memory`. Without one, every row of `ROWS` in a
process of its own, which writes benchmarks/results/memory.json and, for the peaks of `chita`
against p, memory.png. Each is `chita.prune` at sparsity 0.9 with ridge 0.1x, no first-order term,
gradients in bfloat16, no new statistics of batch norms, and `max_memory` as stated. `peak_mb` is
the most memory that the process held during the run, all that PyTorch loads, the network and the
samples included; `added_mb`, what the run added. `passes` is the time of the run in units of one
batched forward and backward pass over the same samples, all weights differentiated, which is timed
afterwards in the same process.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import chita
from chita.records import versions

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.networks import BATCH, made
from benchmarks.solvers import status

RESULTS = Path(__file__).parent / "results"
SOLVERS = ("bso", "chita", "iht", "magnitude", "obd")
FITTED = ("mlpnet", "resnet20", "mobilenetv1", "efficientnet-lite0", "resnet50")
SAME = 200  # samples of each of these
ROWS = [
    *(("resnet50", 280, solver, "outputs", 7000) for solver in SOLVERS),
    *(("resnet50", 280, solver, "full", 7000) for solver in SOLVERS),
    *(("efficientnet-lite0", 400, solver, "outputs", 3700) for solver in ("bso", "chita")),
    *((name, SAME, "chita", "outputs", 7000) for name in FITTED),
]
"""Network, samples, solver, structure, max_memory in MB."""


def passed(model, images, targets):
    """Seconds of a forward and a backward pass over all samples, after one batch."""
    began = 0.0
    for number, start in enumerate((0, *range(0, len(images), BATCH))):
        if number == 1:
            began = time.perf_counter()
        at = slice(start, start + BATCH)
        loss = F.cross_entropy(model(images[at]), targets[at])
        loss.backward()
    seconds = time.perf_counter() - began
    for parameter in model.parameters():
        parameter.grad = None
    return seconds


def one(network, count, solver, structure, max_memory):
    """Print what a run takes, as JSON."""
    model, (images, targets) = made(network, count)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    began = time.perf_counter()
    result = chita.prune(
        model,
        (images, targets),
        sparsity=0.9,
        solver=solver,
        fisher=chita.Fisher(samples=count, structure=structure, storage="bfloat16"),
        quadratic=chita.Quadratic(ridge="0.1x", first_order=0.0, step_size=1.0),
        stages=chita.Stages(bn_recalibrate=False),
        validation=0,
        memory=chita.Memory(max_memory=max_memory),
    )
    took, peak, record = time.perf_counter() - began, status("VmHWM"), result.record
    seconds = passed(model, images, targets)
    kinds = [layer.backend for layer in record.layers]
    print(
        json.dumps({
            "network": network,
            "weights": record.prunable,
            "samples": count,
            "solver": solver,
            "structure": structure,
            "max_memory": max_memory,
            "peak_mb": round(peak / 1e6),
            "added_mb": round((peak - before) / 1e6),
            "seconds": round(took, 1),
            "pass_seconds": round(seconds, 1),
            "passes": round(took / seconds, 2),
            "phases": {phase: round(s, 1) for phase, s in record.seconds.items()},
            "positioned": kinds.count("positioned"),
            "tensors": len(kinds),
            "objective": record.objective,
        })
    )


def plot(results):
    """The peaks and the seconds of `chita` against p, with a line through their logarithms."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    asked = {"solver": "chita", "structure": "outputs", "samples": SAME}
    chosen = [r for r in results if asked.items() <= r.items()]
    sizes = torch.tensor([r["weights"] for r in chosen]).double()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for axis, name in zip(axes, ("added_mb", "seconds"), strict=True):
        values = torch.tensor([r[name] for r in chosen]).double().clamp_min(1)
        ones = torch.ones_like(sizes)
        slope = torch.linalg.lstsq(torch.stack([sizes.log(), ones], 1), values.log()).solution
        axis.loglog(sizes, values, "o")
        axis.loglog(sizes, (slope[0] * sizes.log() + slope[1]).exp(), color="grey")
        for result, value in zip(chosen, values, strict=True):
            axis.annotate(result["network"], (result["weights"], value), fontsize=7)
        axis.set_xlabel(f"weights p, {SAME} samples each")
        axis.set_title(f"{name.replace('_', ' ')} ∝ p^{float(slope[0]):.2f}", fontsize=10)
    figure.savefig(RESULTS / "memory.png", dpi=120)


def main():
    """Measure each row in a process of its own, print, write."""
    results = []
    for row in ROWS:
        command = [sys.executable, __file__, *map(str, row)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            failed = done.stderr.splitlines()[-1:]
            results.append({"row": row, "failed": failed})
        else:
            results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1], flush=True)
        content = {"about": __doc__, "environment": versions(), "results": results}
        (RESULTS / "memory.json").write_text(json.dumps(content, indent=1) + "\n")
    plot(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("row", nargs="*")
    asked = parser.parse_args().row
    if asked:
        one(asked[0], int(asked[1]), asked[2], asked[3], float(asked[4]))
    else:
        main()
