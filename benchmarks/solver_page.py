"""Write docs/solvers.md and its plot from the table of solvers and benchmarks/results.

Usage: python benchmarks/solver_page.py
Nothing is measured here; no figure in that page is written by hand.
"""

import inspect
import math
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from chita.solvers import SOLVERS
from chita.solvers.named import solver_options

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.pages import RESULTS, ROOT, load, table


def plot_growth(growth):
    """Seconds of every solver against p."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    names = dict.fromkeys(r["method"] for r in growth["results"])
    for index, name in enumerate(names):
        own = [r for r in growth["results"] if r["method"] == name and "failed" not in r]
        style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"}
        axes.loglog(
            [r["p"] for r in own],
            [r["solve_seconds"] for r in own],
            marker="o",
            markersize=4,
            label=name,
            **style,
        )
    axes.set(xlabel="weights p", ylabel="seconds of a solve")
    axes.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(RESULTS / "growth.png", dpi=110)


def growing(growth):
    """The section on every solver: seconds and memory by p."""
    sizes = sorted({r["p"] for r in growth["results"]})
    lines = []
    for name in dict.fromkeys(r["method"] for r in growth["results"]):
        own = {r["p"]: r for r in growth["results"] if r["method"] == name}
        times, memory = [], []
        for p in sizes:
            r = own.get(p, {"failed": "-"})
            times.append(r.get("failed") or f"{r['solve_seconds']:.3g}")
            memory.append("-" if "failed" in r else f"{r['peak_over_a']:.2f}")
        known = [(p, own[p]["solve_seconds"]) for p in sizes if "failed" not in own[p]]
        (a, first), (b, last) = known[0], known[-1]
        power = f"{math.log(last / first) / math.log(b / a):.2f}" if a < b else "-"
        lines.append([f"`{name}`", *times, power, *memory])
    head = [
        "solver",
        *(f"seconds, p = {p:,}" for p in sizes),
        "exponent",
        *(f"added memory, A, p = {p:,}" for p in sizes),
    ]
    return f"""## Every solver as p grows

n = 500, a tenth of the weights kept, λ = 1e-3, s = 0, random rows that are dense; a process for
each, at most {growth["limit"]} s (`benchmarks/growth.py`). `cbs` judges its masks by the quadratic
here, since there is no network. The exponent is that of p between the smallest and the largest.

{table(head, lines)}
![Seconds against p, every solver](../benchmarks/results/growth.png)
"""


def by_layers(layers):
    """The section on the layers of a transformer: errors, and seconds by size."""
    results = layers["results"]
    names = list(dict.fromkeys(r["method"] for r in results))
    budgets = list(dict.fromkeys(r["budget"] for r in results))
    whole = len({r["layer"] for r in results})

    def mean(method, budget, field):
        own = [r[field] for r in results if (r["method"], r["budget"]) == (method, budget)]
        return float(np.mean(own)) if len(own) == whole else None

    def cells(method, field):
        found = (mean(method, budget, field) for budget in budgets)
        return ["" if value is None else f"{100 * value:.3f}" for value in found]

    errors = [[f"`{name}`", *cells(name, "error")] for name in names]
    fitted = [n for n in ("magnitude", "wanda", "sparsegpt") if n in names]
    errors += [
        [f"`{name}`, least squares on its mask", *cells(name, "refitted")] for name in fitted
    ]
    sizes = sorted({tuple(r["shape"]) for r in results})
    seconds = []
    for name in names:
        times = [[r["seconds"] for r in results if (r["method"], tuple(r["shape"])) == (name, size)]
                 for size in sizes]  # fmt: skip
        seconds.append([f"`{name}`", *(f"{np.median(own):.3g}" for own in times)])
    ratios = [r["seconds"] / r["ceiling_seconds"] for r in results if "ceiling_seconds" in r]
    gain = 1 - mean("alps", "0.8", "error") / mean("sparsegpt", "0.8", "refitted")
    behind = [
        f"`{name}` at {budget}"
        for budget in budgets
        for name in names
        if (value := mean(name, budget, "error")) and value < mean("alps", budget, "error")
    ]
    shapes = [f"{outputs} x {inputs}" for outputs, inputs in sizes]
    return f"""## On the layers of a transformer

‖XŴ - XW‖²/‖XW‖² in per cent, the mean over the {whole} linear layers of MiniLM (22 million weights,
6 blocks), every solver on the same problems: inputs of the dense network for 128 sequences of 128
tokens of WikiText-2, λ = 0.01 of the mean diagonal (`benchmarks/layers.py`).

{table(["", *budgets], errors)}
At 0.8 the error of `alps` is {100 * gain:.0f} % below that of the least squares on `sparsegpt`'s
mask; the paper has 23 % on its layer (5.32e-2 against 6.95e-2). Below `alps`
are: {", ".join(behind) or "none"}.

Seconds of a layer, outputs x inputs, the median over budgets and layers, on two cores. `obc` finds
one order for all shares of a layer; its time is that and the last solve.

{table(["", *shapes], seconds)}
`alps` takes {np.median(ratios):.2f} times what one eigendecomposition (float64) and its products
(float32) take alone, measured beside it on every problem: the median; a tenth is above
{np.quantile(ratios, 0.9):.2f} times.
"""


def summary(reference, key):
    """Per entry: Q and seconds at sparsity 0.9, and the excess over the best of all problems."""
    results = reference["results"]
    at = [r for r in results if r["kept"] == 3_235]
    head = ["", *(f"s = {r['first_order']:g}, λ = {r['ridge']:g}" for r in at),
            "mean excess", "largest excess", "median seconds"]  # fmt: skip
    lines = []
    for name in results[0][key]:
        cells = [f"{r[key][name]['objective']:.5g} ({r[key][name]['seconds']:.2g} s)" for r in at]
        excess = [_excess(r, r[key][name]["objective"]) for r in results]
        seconds = np.median([r[key][name]["seconds"] for r in results])
        spread = [f"{100 * np.mean(excess):.2f} %", f"{100 * max(excess):.2f} %"]
        lines.append([f"`{name}`" if key == "methods" else name, *cells, *spread, f"{seconds:.2g}"])
    return table(head, lines)


def _excess(result, objective):
    """How far Q lies above the best known, in units of magnitude's Q above the best known."""
    known = [e["objective"] for key in ("methods", "parts") for e in result[key].values()]
    lowest = min(known)
    return (objective - lowest) / (result["methods"]["magnitude"]["objective"] - lowest)


def solvers():
    """Return the page docs/solvers.md."""
    reference, growth = load("reference"), load("growth")
    plot_growth(growth)
    lines = []
    for name, kind in SOLVERS.items():
        first = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        own = {n: v for n, v in solver_options(kind).items() if n != "bound"}  # which all have
        options = ", ".join(f"`{n}` {v}" for n, v in own.items()) or "-"
        needs = ", ".join(c.__name__ for c in kind.curvatures) or "none"
        lines.append([f"`{name}`", first, needs, options])
    return f"""# Solvers

Written by `python benchmarks/solver_page.py`: the table of solvers and what
`benchmarks/reference.py` measured on the {len(reference["results"])} reference problems of MLPNet
(n = {reference["n"]:,}, p = {reference["p"]:,}; λ 1e-4 and 1e-2, first-order scale 0 and 1,
sparsity 0.5 to 0.98). The docstring of each solver has its formulas, its source and every
departure from it. *Curvature* is what a solver must know of the loss. The baselines, from
`block-bso` on, are in `chita.solvers.baselines`: each lies behind another solver here, or is a part
of one.

{table(["solver", "what it does", "curvature", "options and defaults"], lines)}
## What they reach

Q, with seconds in brackets, at sparsity 0.9; the mean and the largest excess over all problems,
as a share of what the best result gains over `magnitude`; the median time. Single times of one
process on a shared machine.

{summary(reference, "methods")}
`block-bso` takes H as block-diagonal; where rows agree across blocks, as with a first-order term,
its blocks overshoot together.

## Why chita is composed as it is

Its parts, on the same problems. Exchanges move hundreds of weights for the price of one system
each; swaps, priced exactly, then find what thresholding cannot see, and alone they would take
hundreds of rounds where many weights must move. `local-search` afterwards gains little for its
time, so it is left to those who ask.

{summary(reference, "parts")}
{by_layers(load("layers"))}
{growing(growth)}"""


def main():
    """Write the page."""
    (ROOT / "docs" / "solvers.md").write_text(solvers())


if __name__ == "__main__":
    main()
