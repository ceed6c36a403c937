"""How fast the solvers are, beside what the machine can do, on an MLPNet-sized problem.

Usage: python benchmarks/solvers.py [--repeats 7]
Writes benchmarks/results/solvers.json beside benchmarks/results/environment.json. Rows are random
with the size of MLPNet's (p = 32,360); times are medians, and ratios to the machine's own
stream of A and Gram product in the same run.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from chita.constraints import Sparsity
from chita.layout import Axes, Layout
from chita.problem import DenseRows, GradientGram, LocalQuadratic
from chita.records import versions
from chita.solvers import BSO, CHITA, IHT, Magnitude

RESULTS = Path(__file__).parent / "results"
N, P = 1000, 32_360
SPARSITIES = (0.5, 0.9, 0.98)
SOLVERS = {
    "magnitude": Magnitude(),
    "bso": BSO(),
    "iht, 50 iterations": IHT(max_iterations=50, tolerance=0),
    "chita": CHITA(),
}


def median(run, repeats):
    """Median seconds of `run`, after one run that does not count."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def problem():
    """Rows of low effective rank, as gradients have, and weights; the same in every run."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(P, 50, generator=generator) @ torch.randn(50, N, generator=generator)
    data = 0.01 * factors + 0.05 * torch.randn(P, N, generator=generator)
    curvature = GradientGram(DenseRows(data))
    w_bar = 0.1 * torch.randn(P, generator=generator)
    shift = curvature.constant(0.0)
    return data, LocalQuadratic(w_bar=w_bar, curvature=curvature, ridge=1e-3, shift=shift)


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    data, quadratic = problem()
    z = torch.randn(N)
    stream = median(lambda: data @ z, repeats)
    layout = Layout(names=("w",), shapes=((P,),), axes=(Axes(),))
    lines = []
    for sparsity in SPARSITIES:
        constraint = Sparsity(sparsity=sparsity).bind(layout)
        columns = data[: constraint.k].clone()
        gram = median(lambda: columns.T @ columns, repeats)  # noqa: B023 (used at once)
        for name, solver in SOLVERS.items():
            run = lambda: solver.solve(quadratic, constraint)  # noqa: B023, E731
            found = run()
            seconds = median(run, repeats)
            lines.append({
                "solver": name,
                "sparsity": sparsity,
                "seconds": seconds,
                "streams_of_A": seconds / stream,
                "grams_of_support": seconds / gram,
                "iterations": found.stats.iterations,
                "objective": found.objective,
            })
            print(
                f"{sparsity:.2f}  {name:20s} {seconds:8.4f} s  {seconds / stream:8.1f} streams  "
                f"{seconds / gram:8.1f} Grams  Q {found.objective:.6g}"
            )
    RESULTS.mkdir(exist_ok=True)
    environment = {
        **versions(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg(),
        "gigabytes_per_second": data.numel() * 4 / stream / 1e9,
    }
    (RESULTS / "environment.json").write_text(json.dumps(environment, indent=1) + "\n")
    content = {"n": N, "p": P, "repeats": repeats, "stream_seconds": stream, "results": lines}
    (RESULTS / "solvers.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
