"""How fast the solvers are, beside what the machine can do, each run in a fresh process.

Usage: python benchmarks/solvers.py [--quick]
Writes benchmarks/results/solvers.json beside environment.json; benchmarks/pages.py draws it.
Sizes: MLPNet's
reference problem where CHITA_DATA is set, else a random one of its size, and random ones up to
10 GB of rows (--quick leaves those above 500 MB out). Times are medians of the repeats within one
process, after one that does not count; the machine's own speeds are measured in the same process:
copying, one pass over A (a product with a vector), the float32 Gram of as many columns as are
kept. `streams` and `grams` are seconds in units of those. Bytes are those of the columns of A that
a solve reads. Peak memory is what a solve adds to the process, in units of A.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from chita.constraints import KeepK
from chita.problem import DenseRows
from chita.records import versions
from chita.solvers import IHT

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.instances import MLPNET_SIZE, SOLVERS, mlpnet_rows, posed, random_rows

RESULTS = Path(__file__).parent / "results"
ITERATIONS = 20  # of the IHT run that tells the time of one iteration
SMALL = 500e6  # bytes of A up to which every solver and sparsity is measured


class _CountedRows:
    """Rows that count the bytes of A that are read."""

    def __init__(self, rows):
        self._rows = rows
        self.read = 0

    def __getattr__(self, name):
        return getattr(self._rows, name)

    def _count(self, columns):
        self.read += 4 * self._rows.n * columns

    def times(self, v, support=None):
        self._count(len(v))
        return self._rows.times(v, support)

    def transpose_times(self, z, support=None):
        self._count(self._rows.p if support is None else len(support))
        return self._rows.transpose_times(z, support)

    def gather(self, index):
        self._count(len(index))
        return self._rows.gather(index)

    def squared_norms(self):
        self._count(self._rows.p)
        return self._rows.squared_norms()


def median(run, repeats):
    """Median seconds of `run`, after one that does not count, and its last result.

    What takes more than two seconds is run once, and that counts.
    """
    began = time.perf_counter()
    result = run()
    first = time.perf_counter() - began
    if first > 2:
        return first, result
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


def machine(data, kept, repeats):
    """Seconds of one pass over A and of one Gram of `kept` columns; GB/s of copying, GFLOP/s."""
    n = data.shape[1]
    part = data[: min(len(data), int(5e8) // (4 * n))]
    copied = torch.empty_like(part)
    copy, _ = median(lambda: copied.copy_(part), repeats)
    z = torch.randn(n)
    stream, _ = median(lambda: data @ z, repeats)
    columns = copied[: min(kept, len(part))]
    gram, _ = median(lambda: columns.T @ columns, repeats)
    square = torch.randn(2000, 2000)
    gemm, _ = median(lambda: square @ square, repeats)
    return {
        "copy_gb_per_s": 8 * copied.numel() / copy / 1e9,
        "gemm_gflop_per_s": 2 * 2000**3 / gemm / 1e9,
        "stream_seconds": stream,
        "gram_seconds": gram * kept / len(columns),
    }


def status(field):
    """Bytes of one line of this process's memory (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise KeyError(field)


def measure(case):
    """One solver on one problem."""
    n, p, kept, repeats = case["n"], case["p"], case["kept"], case["repeats"]
    way = "factored" if case["data"].endswith("factored") else "rule"
    found = mlpnet_rows(way) if case["data"].startswith("mlpnet") else None
    rows, w_bar = found[:2] if found else random_rows(n, p)
    segments = found[2] if found else ()
    constraint = KeepK(size=p, k=kept)
    solver = SOLVERS[case["solver"]]()
    if isinstance(solver, IHT):
        solver = IHT(max_iterations=ITERATIONS, tolerance=0)

    def run(counted):
        problem = posed(counted, w_bar, case["first_order"], case["ridge"], segments)
        return solver.solve(problem, constraint)

    small, small_w_bar = random_rows(256, 8192)  # loads what PyTorch loads at first use
    solver.solve(posed(small, small_w_bar, 1.0, 0.1), KeepK(size=8192, k=819))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    counted = _CountedRows(rows)
    began = time.perf_counter()
    result = run(counted)
    seconds = time.perf_counter() - began
    peak = status("VmHWM") - before
    if seconds < 2:
        seconds, result = median(lambda: run(rows), repeats)
    iteration = None
    if isinstance(solver, IHT):
        twice = IHT(max_iterations=2 * ITERATIONS, tolerance=0)
        problem = posed(rows, w_bar, case["first_order"], case["ridge"], segments)
        longer, _ = median(lambda: twice.solve(problem, constraint), case["repeats"])
        shorter, _ = median(lambda: solver.solve(problem, constraint), case["repeats"])
        iteration = (longer - shorter) / ITERATIONS
    dense = rows if isinstance(rows, DenseRows) else DenseRows(rows.gather(torch.arange(p)))
    speeds = machine(dense._data, kept, repeats)
    return {
        **case,
        **speeds,
        "seconds": seconds,
        "solve_seconds": result.stats.seconds,
        "iterations": result.stats.iterations,
        "iteration_seconds": iteration,
        "objective": result.objective,
        "gb_read": counted.read / 1e9,
        "gb_per_s": counted.read / seconds / 1e9,
        "streams": seconds / speeds["stream_seconds"],
        "grams": seconds / speeds["gram_seconds"],
        "peak_over_a": peak / (4 * n * p),
        "systems_over_a": 8 * n * n / (4 * n * p),
    }


def cases(quick):
    """Sizes × sparsities × solvers; the largest with three solvers at one sparsity."""
    real = "mlpnet" if "CHITA_DATA" in os.environ else "random"
    for kept in (16_180, 3_235, 647):
        for solver in SOLVERS:
            yield {"data": real, "n": 1000, "p": MLPNET_SIZE, "kept": kept, "solver": solver,
                   "ridge": 1e-2, "first_order": 0.0, "repeats": 5}  # fmt: skip
    for first_order, ridge in ((0.0, 1e-4), (0.0, 1e-2), (1.0, 1e-4), (1.0, 1e-2)):
        for data in (real, "mlpnet, factored") if real == "mlpnet" else (real,):
            for solver in ("bso", "chita"):
                if data != real or (first_order, ridge) != (0.0, 1e-2):
                    yield {"data": data, "n": 1000, "p": MLPNET_SIZE, "kept": 3_235,
                           "solver": solver, "ridge": ridge, "first_order": first_order,
                           "repeats": 5}  # fmt: skip
    for n, sizes in ((500, (32_360, 300_000, 4_000_000)), (1000, (300_000, 2_500_000)),
                     (2000, (32_360, 300_000, 1_250_000))):  # fmt: skip
        for p in sizes:
            small = 4 * n * p <= SMALL
            if quick and not small:
                continue
            for sparsity in (0.5, 0.9, 0.98) if 4 * n * p <= 3 * SMALL else (0.9,):
                for solver in ("magnitude", "bso", "block-bso", "iht", "chita"):
                    yield {"data": "random", "n": n, "p": p, "kept": round((1 - sparsity) * p),
                           "solver": solver, "ridge": 1e-3, "first_order": 0.0,
                           "repeats": 3 if small else 1}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", type=int, help="only problems of so many weights, n = 1000")
    parser.add_argument("--case", help="one case as JSON, measured in this process")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(json.loads(arguments.case))))
        return
    results = []
    for case in cases(arguments.quick):
        if arguments.size and (case["n"], case["p"]) != (1000, arguments.size):
            continue
        command = [sys.executable, __file__, "--case", json.dumps(case)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(line)
        results.append(found)
        print(
            f"n {found['n']:5d}  p {found['p']:8d}  kept {found['kept']:8d}  "
            f"{found['solver']:12s} {found['seconds']:8.3f} s  {found['streams']:7.1f} streams  "
            f"{found['gb_per_s']:6.1f} GB/s of {found['copy_gb_per_s']:5.1f}  "
            f"peak {found['peak_over_a']:.2f} A  Q {found['objective']:.6g}",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    if arguments.size:  # the others stay as they were measured before
        before = json.loads((RESULTS / "solvers.json").read_text())["results"]
        results += [r for r in before if (r["n"], r["p"]) != (1000, arguments.size)]
    environment = {
        **versions(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg(),
        "copy_gb_per_s": statistics.median(r["copy_gb_per_s"] for r in results),
        "gemm_gflop_per_s": statistics.median(r["gemm_gflop_per_s"] for r in results),
    }
    (RESULTS / "environment.json").write_text(json.dumps(environment, indent=1) + "\n")
    content = {"about": __doc__, "iht_iterations": ITERATIONS, "results": results}
    (RESULTS / "solvers.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
