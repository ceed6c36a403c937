"""What `chita plan` predicts, beside what a run then takes, each in a fresh process.

Usage: python benchmarks/plan.py
Writes benchmarks/results/plan.json beside benchmarks/results/environment.json. The networks of the
papers take part where CHITA_DATA names their folder. Single runs; times on a shared machine vary.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SPARSITY = 0.9


def cases():
    """(name, options of the command line)."""
    yield "digits-mlp, chita", ["--model", "digits-mlp"]
    yield "digits-cnn, chita", ["--model", "digits-cnn"]
    if "CHITA_DATA" not in os.environ:
        return
    folder = Path(os.environ["CHITA_DATA"])
    mlpnet = [
        *("--model", "mlpnet", "--data-dir", str(folder)),
        *("--weights", str(folder / "checkpoints" / "mlpnet_mnist.safetensors")),
    ]
    resnet = [
        *("--model", "resnet20", "--data", str(folder / "cifar10-q75.zip")),
        *("--weights", str(folder / "checkpoints" / "resnet20_cifar10q75.safetensors")),
    ]
    yield "mlpnet, bso", [*mlpnet, "--solver", "bso"]
    yield "mlpnet, chita", mlpnet
    yield "mlpnet, iht", [*mlpnet, "--solver", "iht"]
    yield "resnet20, bso", [*resnet, "--solver", "bso"]
    yield "resnet20, chita, 500 rows", [*resnet, "--samples", "500"]


def run(command, arguments):
    """What the command prints as JSON."""
    program = [sys.executable, "-m", "chita", command, *arguments]
    program += ["--sparsity", str(SPARSITY), "--json"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    """Predict, run, write."""
    found = []
    for name, arguments in cases():
        plan, record = run("plan", arguments), run("prune", arguments)
        row = {
            "case": name,
            "peak_mb": [round(plan["peak_bytes"] / 1e6), record["peak_rss_mb"]],
            "collect_seconds": [plan["collect_seconds"], record["seconds"]["collect"]],
            "solve_seconds": [plan["solve_seconds"], record["seconds"]["solve"]],
            "evaluate_seconds": [plan["evaluate_seconds"], record["seconds"]["evaluate"]],
        }
        found.append(row)
        print(row, flush=True)
    content = {"about": "pairs of predicted and measured", "cases": found}
    (RESULTS / "plan.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
