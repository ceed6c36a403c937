"""Write docs/performance.md and its plot from benchmarks/results.

Usage: python benchmarks/pages.py
Nothing is measured here; no figure in that page is written by hand.
"""

import json
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PREDICTED = {  # exponents of n, p and k that the dominating term gives
    "magnitude": ("selection", 0, 1, 0),
    "bso": ("Gram of the support, n²k", 2, 1, 1),
    "block-bso": ("passes over A, np, and systems of a block's kept weights", 1, 1, None),
    "iht": ("two passes over A an iteration, np", 1, 1, 0),
    "chita": ("Grams of the weights exchanged, n²k, and n x n systems", 2, 1, 1),
}


def load(name):
    """One file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head, lines):
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return (
        "\n".join(
            "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
        )
        + "\n"
    )


def sparsity(result):
    """Share removed, as it was asked for."""
    return round(1 - result["kept"] / result["p"], 2)


def plot(results):
    """Seconds against the size of A, and bytes per second against the speed of copying."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    chosen = [r for r in results if sparsity(r) == 0.9 and r["gb_read"] > 0]
    chosen = [r for r in chosen if r["first_order"] == 0 and r["ridge"] != 1e-4]
    chosen = [r for r in chosen if "factored" not in r["data"]]
    for n, marker in ((500, "v"), (1000, "o"), (2000, "^")):
        for index, solver in enumerate(("bso", "block-bso", "iht", "chita")):
            own = [r for r in chosen if r["solver"] == solver and r["n"] == n]
            own.sort(key=lambda r: r["p"])
            sizes = [4e-9 * r["n"] * r["p"] for r in own]
            style = {"marker": marker, "color": f"C{index}", "alpha": 0.8}
            style["label"] = solver if n == 1000 else None
            left.loglog(sizes, [r["seconds"] for r in own], **style)
            shares = [r["gb_per_s"] / r["copy_gb_per_s"] for r in own]
            right.semilogx(sizes, shares, **style)
    left.set(xlabel="A, GB", ylabel="seconds", title="Sparsity 0.9 (iht: 20 iterations)")
    right.set(
        xlabel="A, GB",
        ylabel="bytes of A per second / speed of copying",
        title="n = 500 ▽, 1000 ○, 2000 △",
    )
    left.legend()
    figure.savefig(RESULTS / "solvers.png", dpi=110)


def exponents(results, solver):
    """Fitted exponents of n and p at sparsity 0.9, and of k at the same n and p."""
    own = [r for r in results if r["solver"] == solver and r["data"] == "random"]
    at = [r for r in own if sparsity(r) == 0.9]
    logs = np.array([[1, math.log(r["n"]), math.log(r["p"])] for r in at])
    times = np.log([r["solve_seconds"] for r in at])
    _, n, p = np.linalg.lstsq(logs, times, rcond=None)[0]
    sizes = sorted({(r["n"], r["p"]) for r in own if sparsity(r) != 0.9})
    ks, ts = [], []
    for size in sizes:
        same = [r for r in own if (r["n"], r["p"]) == size]
        logk = np.log([r["kept"] for r in same])
        logt = np.log([r["solve_seconds"] for r in same])
        ks.append(logk - logk.mean())
        ts.append(logt - logt.mean())
    ks, ts = np.concatenate(ks), np.concatenate(ts)
    return n, p, float(ks @ ts / (ks @ ks))


def growth(results):
    """The table of exponents."""
    lines = []
    for solver, (why, *predicted) in PREDICTED.items():
        fitted = exponents(results, solver)
        cells = [
            f"{value:.2f} ({'-' if expected is None else expected})"
            for value, expected in zip(fitted, predicted, strict=True)
        ]
        lines.append([f"`{solver}`", why, *cells])
    return table(["solver", "dominating term", "n", "p", "k"], lines)


def asked(results):
    """The ratios that were asked for, on the problem of MLPNet's size."""
    own = [r for r in results if r["p"] == 32_360 and r["n"] == 1000]
    lines = []
    for r in own:
        budget = 2 * r["gram_seconds"] + 4 * r["stream_seconds"]
        if r["solver"] == "bso":
            name = "seconds / (2 Grams of the support + 4 streams), at most 1"
            lines.append([r, name, f"{r['seconds'] / budget:.2f}"])
        if r["solver"] == "iht":
            ratio = r["iteration_seconds"] / (2 * r["stream_seconds"])
            lines.append([r, "iteration / 2 streams, at most 1.5", f"{ratio:.2f}"])
        if r["solver"] in ("bso", "chita") and sparsity(r) == 0.9:
            limit = {"bso": 0.15, "chita": 0.4}[r["solver"]]
            lines.append([r, f"seconds, at most {limit}", f"{r['seconds']:.3f}"])
    for r in own:
        systems = (r["peak_over_a"] - 0.25) / r["systems_over_a"]
        if r["solver"] in ("bso", "iht", "chita") and sparsity(r) == 0.9:
            text = f"{r['peak_over_a']:.2f} A = 0.25 A + {max(0.0, systems):.1f} n x n systems"
            lines.append([r, "memory added to A, at most 0.25 A and the n x n systems", text])
    return table(
        ["solver", "rows", "sparsity", "λ", "s", "quantity", "measured"],
        [
            [
                f"`{r['solver']}`",
                "factored" if "factored" in r["data"] else "dense",
                sparsity(r),
                r["ridge"],
                f"{r['first_order']:g}",
                what,
                value,
            ]
            for r, what, value in lines
        ],
    )


def speeds(results):
    """One line per solver and size."""
    head = ["n", "p", "sparsity", "λ", "s", "solver", "seconds", "streams of A", "GB of A read",
            "GB/s", "of copying", "added memory, A", "Q"]  # fmt: skip
    lines = [
        [
            r["n"],
            f"{r['p']:,}",
            sparsity(r),
            r["ridge"],
            f"{r['first_order']:g}",
            f"`{r['solver']}`",
            f"{r['seconds']:.3g}",
            f"{r['streams']:.1f}",
            f"{r['gb_read']:.3g}",
            f"{r['gb_per_s']:.2g}",
            f"{100 * r['gb_per_s'] / r['copy_gb_per_s']:.0f} %",
            f"{r['peak_over_a']:.2f}",
            f"{r['objective']:.6g}",
        ]
        for r in results
    ]
    return table(head, lines)


def storage(reference):
    """Errors of 16 bits on every reference problem."""
    lines = []
    for r in reference["results"]:
        s, exact = r["storage"], r["storage"]["float32"]
        cells = [f"{r['first_order']:g}", r["ridge"], f"{1 - r['kept'] / reference['p']:.2f}"]
        for dtype in ("bfloat16", "float16"):
            same = s[f"{dtype}, relative error of Q at the same weights"]
            own = s[f"{dtype}, Q of its own result"]
            cells += [f"{same:.1e}", f"{(own - exact) / abs(exact):+.1e}"]
        lines.append([*cells, f"{exact:.6g}"])
    head = ["s", "λ", "sparsity", "bfloat16: same weights", "own result", "float16: same weights",
            "own result", "Q in float32"]  # fmt: skip
    return table(head, lines)


def collecting(rows):
    """Rows per second by backend, beside one batched backward and a loop of samples."""
    lines = []
    for network, threads in dict.fromkeys((r["network"], r["threads"]) for r in rows["results"]):
        own = {
            r["way"]: r
            for r in rows["results"]
            if (r["network"], r["threads"]) == (network, threads)
        }
        rate = {way: r["rows_per_second"] for way, r in own.items()}
        for way, r in own.items():
            ceiling, loop = rate["batched backward"], rate["loop of samples"]
            cells = [network, threads, way, f"{rate[way]:,.0f}", f"{rate[way] / ceiling:.2f}"]
            cells += [
                f"{rate[way] / loop:.1f}",
                f"{r['added_mb']:,.0f}",
                f"{r['added_over_a']:.2f}",
            ]
            lines.append(cells)
    head = ["network", "threads", "backend", "rows/s", "of batched", "of loop", "added MB", "in A"]
    return table(head, lines)


def whole(rows):
    """Seconds of a whole run."""
    return ", ".join(
        f"{r['later']:.3f} s ({r['first']:.2f} s when first called) with {r['threads']} thread"
        + "s" * (r["threads"] > 1)
        for r in rows["end to end"]
    )


def factoring(rows):
    """Products with factored rows in units of those with A."""
    names = ("times", "transpose_times", "gather", "squared_norms", "all")
    lines = [
        [
            f"{r['shape'][0]} × {r['shape'][1]}",
            r["threads"],
            "factored" if r["chosen"] else "formed",
            *(f"{r[name]:.2f}" for name in names),
        ]
        for section in rows["factored"]
        for r in section
    ]
    return table(["layer", "threads", "kept", *(f"`{n}`" for n in names[:-1]), "all"], lines)


def selecting(budgets):
    """The section on `select`: seconds by budget, in units of a plain top-k."""
    lines = [
        [
            network["network"],
            f"{network['p']:,}",
            line["budget"],
            f"{line['kept']:,}",
            f"{line['seconds']:.2f}",
            f"{line['ratio']:.1f}",
            f"{100 * line['short']:.5f} %" if "short" in line else "optimal",
        ]
        for network in budgets["results"]
        for line in network["budgets"]
    ]
    head = ["network", "p", "budget", "kept", "seconds", "of top-k", "short of the best by at most"]
    return f"""## Selecting under budgets

Seconds of `select` on a network's initial weights, {budgets["threads"]} threads, medians of
`benchmarks/budgets.py`; FLOPs and non-zeros are what remains at most.

{table(head, lines)}"""


def depths(memory):
    """The section on memory layer by layer."""
    lines = [
        [
            str(r["blocks"]),
            f"{r['weights'] / 1e6:.1f}",
            "in files" if r["max_memory"] == 0 else "in memory",
            f"{r['added_mb']:.0f}",
            f"{r['seconds']['collect']:.0f}",
            f"{r['seconds']['solve']:.0f}",
        ]
        for r in memory["results"]
    ]
    head = ["blocks", "million weights", "activations", "MB added", "s, inputs", "s, solving"]
    return f"""## Memory layer by layer

Llama-shaped networks of width 512, `alps` at 0.7, in place (`benchmarks/layer_memory.py`). Beside
the network, a block makes {memory["needed_mb"]:.0f} MB necessary (its Gram matrices, three more of
the largest and ten of that layer's weights), its activations {memory["activations_mb"]:.0f} MB,
masks a byte a weight.

{table(head, lines)}"""


def holding(masks):
    """The section on what holding masks costs."""
    lines = [
        [
            r["network"],
            r["optimizer"],
            f"{r['weights']:,}",
            f"{1000 * r['seconds_without'] / r['steps']:.1f}",
            f"{100 * (r['ratio'] - 1):+.1f} %",
        ]
        for r in masks["results"]
    ]
    head = ["network", "optimizer", "weights in masks", "ms a step without", "an epoch with masks"]
    return f"""## Holding masks

An epoch under masks against one without, batches of 128, the median of pairs that took turns
(`benchmarks/masks.py`). Of what AdamW adds on the perceptron, most is PyTorch's: on a CPU the
square root of a zero takes it ten times as long as that of another number, and second moments of
removed weights are zero.

{table(head, lines)}"""


def performance():
    """The page docs/performance.md."""
    solvers, reference, machine = load("solvers"), load("reference"), load("environment")
    rows = load("rows")
    results = solvers["results"]
    plot(results)
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return f"""# Performance

Written by `python benchmarks/pages.py` from what `make bench` and `benchmarks/reference.py`
measured. Times are medians in fresh processes; compare them with the speeds of the same process:
a *stream* is one pass over A (A times a vector), a *Gram* the float32 product of as many columns
as are kept. The first problem is MLPNet's reference problem where its data was at hand.

{facts}

## What was asked for

On MLPNet's reference problem. With s = 0 `bso` solves two supports, that of the largest costs and
that of the largest weights; with s = 1 also that of the thresholded step. Each takes a Gram, or the
Gram of what it does not share with the one before. Rows of MLPNet are factored when `chita prune`
collects them; *dense* forms them.

{asked(results)}
## Growth

Exponents fitted to the random problems (time ∝ nᵃpᵇ at sparsity 0.9, and kᶜ at the same n and p),
with those of the dominating term in brackets. Below some 100 MB other terms still count: systems
of n³/3, and a constant cost of some milliseconds.

{growth(results)}
![Seconds and bytes per second against the size of A](../benchmarks/results/solvers.png)

## Collecting rows

Rows per second of `collect_gradients`, with all its checks, by the fastest backend; of one
plain batched backward over the same samples, which gives no rows; of a loop over samples into a
matrix that is there before. Memory is what the process needs in addition, also in units of A.
`chita.prune` of MLPNet on 1,000 rows by `bso`, evaluation left out:
{whole(rows)}.

{collecting(rows)}
Products with factored rows (1,000 of them; a tenth of the columns gathered), in units of the same
products with A: a layer is factored where its factors take at most a quarter of the room, which is
where the products are cheaper too.

{factoring(rows)}
## Rows in 16 bits

Rows stored in bfloat16, or in float16 with one scale per tensor; products in float32. *Same
weights*: the relative error of Q at the weights found with float32 rows. *Own result*: by how much
Q, on float32 rows, of the weights found with 16-bit rows lies above that found with float32
(negative: below), as a share of it.

{storage(reference)}
## Everything measured

`iht` makes {solvers["iht_iterations"]} iterations here; the share of the speed of copying counts
a byte copied twice, once read and once written.

{speeds(results)}"""


def main():
    """Write the page."""
    others = [
        selecting(load("budgets")),
        depths(load("layer_memory")),
        holding(load("masks")),
    ]
    (ROOT / "docs" / "performance.md").write_text("\n".join([performance(), *others]))


if __name__ == "__main__":
    main()
