"""List the classes of chita whose code runs in `chita prune --stages 10`: the nouns of its path.

python tools/names_on_path.py [TREE]      of another tree, where one is named

A class counts if a method of one of its objects is called, and so do its bases; private ones too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

_TRACED = """
import contextlib, importlib, json, pkgutil, sys, threading
import chita
import chita.cli.app as app
for module in pkgutil.walk_packages(chita.__path__, "chita."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(Exception):  # of extras that are not installed
            importlib.import_module(module.name)
seen = set()
def watch(frame, event, arg):
    code = frame.f_code
    if event == "call" and code.co_varnames[:1] == ("self",) and code.co_argcount:
        for base in type(frame.f_locals["self"]).__mro__:
            if base.__module__.partition(".")[0] == "chita":
                seen.add((base.__module__, base.__name__))
sys.argv[0] = "chita"
threading.setprofile(watch)
sys.setprofile(watch)
try:
    app.main()
finally:
    sys.setprofile(None)
    print(json.dumps(sorted(seen)))
"""


def names(tree: Path) -> dict[str, list[str]]:
    """Return the classes by the package in which they stand."""
    words = ["prune", "--stages", "10", "--sparsity", "0.9", "--model", "digits-mlp", "--quiet"]
    run = subprocess.run(
        [sys.executable, "-c", _TRACED, *words],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("[["):
        sys.exit(run.stderr)
    found: dict[str, list[str]] = defaultdict(list)
    for module, name in json.loads(lines[-1]):
        package = module.split(".")[1] if module.count(".") > 1 else "chita"
        found[package].append(name)
    return found


def main() -> None:
    """Print the names by package, and their number."""
    tree = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    found = names(tree)
    for package, own in sorted(found.items()):
        print(f"{package}: {', '.join(sorted(set(own)))}")
    print(sum(len(set(own)) for own in found.values()))


if __name__ == "__main__":
    main()
