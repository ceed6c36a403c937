"""How long the program takes to say what it can do, beside `import torch`.

Usage: python benchmarks/start.py
Commands that only show help or the version import no torch; here it is seen what that is worth.
All are run in turns, REPEATS times, each in a fresh process; figures are medians of the ratios to
`import torch` of the same turn. Writes benchmarks/results/start.json.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from chita.records import versions

RESULTS = Path(__file__).parent / "results"
REPEATS = 9
TORCH = "import torch"
RUNS = {
    TORCH: ("-c", "import torch"),
    "import chita": ("-c", "import chita"),
    "chita --version": ("-m", "chita", "--version"),
    "chita --help": ("-m", "chita", "--help"),
    "chita prune --help": ("-m", "chita", "prune", "--help"),
    "chita plan --help": ("-m", "chita", "plan", "--help"),
}


def seconds(arguments):
    """Wall-clock seconds of a process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began


def main():
    """Measure, print, write."""
    turns = [{name: seconds(run) for name, run in RUNS.items()} for _ in range(REPEATS)]
    results = [
        {
            "run": name,
            "seconds": round(statistics.median(turn[name] for turn in turns), 3),
            "share_of_torch": round(statistics.median(t[name] / t[TORCH] for t in turns), 3),
        }
        for name in RUNS
    ]
    for result in results:
        print(json.dumps(result))
    found = {"versions": versions(), "repeats": REPEATS, "results": results}
    (RESULTS / "start.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
