"""Every method on the 24 reference problems of MLPNet, and what chita's parts and 16 bits do.

Usage: CHITA_DATA=... python benchmarks/reference.py
Writes benchmarks/results/reference.json, from which benchmarks/solver_page.py makes its page.
Q is the objective on float32 rows, and `seconds` single times, in one process. `storage` holds, for
rows kept in 16 bits, the largest relative error of Q at the same weights, and Q on float32 rows of
the weights that chita then finds.
"""

import json
import math
import sys
from pathlib import Path

import torch

from chita.constraints import KeepK
from chita.problem import DenseRows
from chita.solvers import CHITA
from chita.solvers.baselines import LocalSearch

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.instances import MLPNET_SIZE, REFERENCE, SOLVERS, mlpnet_rows, posed

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "start alone (bso)": CHITA(max_rounds=0, max_swap_rounds=0),
    "and exchanges": CHITA(max_swap_rounds=0),
    "and swaps, no exchanges": CHITA(max_rounds=0),
    "chita: exchanges, then swaps": CHITA(),
    "chita, then local-search": LocalSearch(solver=CHITA()),
}


def stored_as(rows, dtype, segments):
    """The rows in 16 bits; in float16 each slice with a scale that puts its largest near 2**15."""
    data = rows.gather(torch.arange(rows.p))
    if dtype != torch.float16:
        return DenseRows(data.to(dtype))
    scale = torch.ones(rows.p)
    for segment in segments:
        power = 2.0 ** min(126, 15 - math.frexp(float(data[segment].abs().max()))[1])
        data[segment] *= power
        scale[segment] = 1 / power
    return DenseRows(data.to(dtype), scale)


def solved(solver, problem, kept):
    """Q, seconds and the weights."""
    found = solver.solve(problem, KeepK(size=MLPNET_SIZE, k=kept))
    return {"objective": found.objective, "seconds": found.stats.seconds}, found.weights


def storage(rows, w_bar, segments, instance):
    """What 16 bits change on one instance."""
    first_order, ridge, kept = instance
    exact = posed(rows, w_bar, first_order, ridge)
    ours, weights = solved(CHITA(), exact, kept)
    found = {"float32": ours["objective"]}
    for dtype in (torch.bfloat16, torch.float16):
        rounded = posed(stored_as(rows, dtype, segments), w_bar, first_order, ridge)
        name = str(dtype).removeprefix("torch.")
        error = abs(rounded.value(weights) - ours["objective"]) / abs(ours["objective"])
        found[f"{name}, relative error of Q at the same weights"] = error
        found[f"{name}, Q of its own result"] = exact.value(solved(CHITA(), rounded, kept)[1])
    return found


def main():
    """Measure, print, write."""
    found = mlpnet_rows()
    if found is None:
        sys.exit("Set CHITA_DATA to the folder with MNIST and the checkpoint of MLPNet.")
    rows, w_bar, segments = found
    results = []
    for instance in REFERENCE:
        first_order, ridge, kept = instance
        problem = posed(rows, w_bar, first_order, ridge, segments)
        line = {"first_order": first_order, "ridge": ridge, "kept": kept}
        line["methods"] = {n: solved(kind(), problem, kept)[0] for n, kind in SOLVERS.items()}
        line["parts"] = {n: solved(solver, problem, kept)[0] for n, solver in PARTS.items()}
        line["storage"] = storage(rows, w_bar, segments, instance)
        results.append(line)
        print(json.dumps(line), flush=True)
    content = {"about": __doc__, "n": rows.n, "p": rows.p, "results": results}
    (RESULTS / "reference.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
