"""Seed one fault at a time into a copy of the tree and see that the tests notice.

Usage: python tools/seed_faults.py [word ...]   (only faults whose line contains a word)
A fault is a replacement in one file, and the tests that must fail with it. With CHITA_DATA set the
tests on real data take part. Exits with 1 when a fault goes unnoticed or no longer applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from faults import FAULTS

ROOT = Path(__file__).parent.parent
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "")  # slow tests, too


def noticed(fault: tuple[str, str, str, str], tree: Path) -> bool | None:
    """Return whether the tests fail with this fault in the copy; None where it does not apply."""
    name, old, new, tests = fault
    path = tree / "chita" / name
    source = path.read_text()
    if source.count(old) < 1:
        return None
    path.write_text(source.replace(old, new, 1))
    try:
        done = subprocess.run(
            [sys.executable, *_PYTEST, *tests.split()],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
        return done.returncode not in {0, 5}
    finally:
        path.write_text(source)


def main() -> None:
    """Try every fault, or those that the arguments name."""
    words = sys.argv[1:]
    faults = [f for f in FAULTS if not words or any(word in " ".join(f) for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "*cache*"))
        for fault in faults:
            verdict = {True: "noticed", False: "MISSED", None: "DOES NOT APPLY"}[
                noticed(fault, tree)
            ]
            missed += verdict != "noticed"
            print(f"{verdict:8s} {fault[0]}: {fault[1]!r} -> {fault[2]!r}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} seeded faults were noticed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
