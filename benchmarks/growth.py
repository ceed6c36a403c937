"""How the time of every method grows with p: n = 500, a tenth of the weights kept.

Usage: python benchmarks/growth.py [method ...]   (without words: all)
Each run is in a fresh process, as in benchmarks/solvers.py, which measures it; a first-order term
is left out, λ is 1e-3. Times are medians of three, at the largest size one, after one that does not
count. What takes more than LIMIT seconds, or more memory than there is, is told
as such. Writes benchmarks/results/growth.json; benchmarks/solver_page.py draws it.
"""

import json
import subprocess
import sys
from pathlib import Path

from chita.records import versions

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.instances import SOLVERS

RESULTS = Path(__file__).parent / "results"
SIZES = (30_000, 300_000, 3_000_000)
LIMIT = 180  # seconds of a process


def measured(method, p):
    """Seconds of the search, and of a pass over A, added memory, and Q; or why there are none."""
    case = {"data": "random", "n": 500, "p": p, "kept": p // 10, "solver": method,
            "ridge": 1e-3, "first_order": 0.0, "repeats": 3 if p < 1_000_000 else 1}  # fmt: skip
    command = [sys.executable, str(Path(__file__).parent / "solvers.py"), "--case"]
    try:
        done = subprocess.run(
            [*command, json.dumps(case)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"method": method, "p": p, "failed": f"over {LIMIT} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        memory = done.returncode < 0 or "memory" in last.lower()
        return {"method": method, "p": p, "failed": "does not fit" if memory else last}
    found = json.loads(done.stdout)
    names = ("solve_seconds", "stream_seconds", "peak_over_a", "objective", "iterations")
    return {"method": method, "p": p, **{name: found[name] for name in names}}


def main():
    """Measure, print, write; methods that are not named stay as they were measured before."""
    path = RESULTS / "growth.json"
    named = sys.argv[1:] or list(SOLVERS)
    before = json.loads(path.read_text())["results"] if path.exists() else []
    results = [r for r in before if r["method"] in SOLVERS and r["method"] not in named]
    for method in named:
        for p in SIZES:
            results.append(measured(method, p))
            print(json.dumps(results[-1]), flush=True)
    order = list(SOLVERS)
    results.sort(key=lambda r: (order.index(r["method"]), r["p"]))
    content = {"about": __doc__, "limit": LIMIT, "environment": versions(), "results": results}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
