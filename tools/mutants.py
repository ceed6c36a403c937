"""Change the core bit by bit, and count the changes that no test notices.

`make mutants` installs mutmut and runs this. mutmut changes every expression of every function of
four packages: an operator is another one, a number one more, an argument None or left out, a text
in other letters. Of each package `--each` of these mutants are drawn by `--seed`, from each file in
proportion. A mutant meets the tests of [tool.mutmut] in pyproject.toml that call its function, but
for the longest twentieth of all, up to the first that fails; one that never ends is killed too.

Neither run nor counted are changes of only what an error says, or of only a tensor's device, which
is one on a CPU (see tests/test_accelerators.py), and those which tools/mutants_excused.toml calls
"message" or "equivalent". What it calls "accepted" is run and counted; its reason is printed.

mutmut leaves alone: decorated functions, so properties, cached ones and abstract ones; what runs on
import, so constants, tables and fields of classes; annotations; `len` and `isinstance`;
`__new__`, `__setattr__` and `__getattribute__`; and the text between the fields of an f-string.

Prints and writes benchmarks/results/mutants.json; exits with 1 below 85 % killed in a package.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("linalg", "problem", "constraints", "solvers")
LEAST, FAST = 0.85, 0.95  # shares: of mutants to be killed; of tests, in a third of their time
COLUMNS = ("drawn", "killed", "timeout", "survived", "no tests", "equivalent", "message")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A changed function: mutmut's `name`, its file, and the statements before and after."""

    name: str
    path: Path
    was: str
    becomes: str
    kind: str | None  # "message" or "equivalent", where that follows from the change itself

    def excuse(self, listed: Sequence[dict[str, str]]) -> tuple[str | None, str]:
        """Return the kind, None if it is to be killed, and a reason.

        An entry has a statement as `ast.unparse` writes it; without `becomes`, for all its changes.
        """
        module, _, own = self.name.partition("__mutmut_")[0].rpartition(".")
        own = own.removeprefix("x").removeprefix("_").strip("ǁ").replace("ǁ", ".")
        for entry in listed:
            change = entry["function"], entry["was"], entry.get("becomes", self.becomes)
            if change == (f"{module}.{own}", self.was, self.becomes):
                return entry["kind"], entry["reason"]
        return self.kind, ""


class _Silent(ast.NodeTransformer):
    """Drop what errors say, but for what they compute to say it."""

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant):
                part.value = None
        return node


class _Placeless(ast.NodeTransformer):
    """Drop the device from calls, and from `x.to(y.device)`, of which mutmut makes `x.to(None)`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "device"]
        if ast.unparse(node.func).endswith(".to"):
            node.args = [a for a in node.args if not ast.unparse(a).endswith((".device", "None"))]
        return self.generic_visit(node)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield the mutants that mutmut makes of a file."""
    tool = import_module("mutmut.mutation.file_mutation")
    mutated = tool.mutate_file_contents(str(path), path.read_text())
    nodes = ast.walk(ast.parse(mutated.code))
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    for mangled in mutated.mutant_names:
        both = functions[f"{mangled.rpartition('_')[0]}_orig"], functions[mangled]
        both[0].name = both[1].name = "f"
        before, after = map(ast.unparse, both)
        lines = [*difflib.ndiff(before.splitlines(), after.splitlines())]
        was, becomes = (" ".join(x[2:].strip() for x in lines if x[0] == sign) for sign in "-+")
        kind = "message" if becomes.removesuffix(" from None").endswith("Error(None)") else None
        for word, without in ("message", _Silent()), ("equivalent", _Placeless()):
            trees = (without.visit(ast.parse(text)) for text in (before, after))
            kind = kind or (word if len(set(map(ast.dump, trees))) == 1 else None)
        name = import_module("mutmut.utils.format_utils").get_mutant_name(path, mangled)
        yield Mutant(name=name, path=path, was=was, becomes=becomes, kind=kind)


def drawn(package: str, each: int, seed: int) -> tuple[list[Mutant], int]:
    """Return so many mutants, and of how many: in equal steps through all files, each shuffled."""
    chance, found = random.Random(f"{package} {seed}"), list[Mutant]()
    for path in sorted(Path("chita", package).rglob("*.py")):
        own = list(mutants_of(path))
        chance.shuffle(own)
        found += own
    step = max(1.0, len(found) / each)
    start = chance.random() * (step - 1)
    return [found[int(start + step * i)] for i in range(min(each, len(found)))], len(found)


def verdicts(mutants: Sequence[Mutant], workers: int) -> dict[str, str]:
    """Let mutmut run the mutants; return the word for what became of each.

    In this process, which must not import chita: the processes that it forks would keep that one.
    """
    shutil.rmtree("mutants", ignore_errors=True)
    mutmut: Any = import_module("mutmut.__main__")
    state, collect = import_module("mutmut.state").state, mutmut.collect_or_load_stats

    def collect_fast(*given: Any, **named: Any) -> None:
        """Leave out long tests, and the doctests that mutants have as copies."""
        collect(*given, **named)
        took, tests = state().duration_by_test, state().tests_by_mangled_function_name
        own = sorted((test for test in took if "__mutmut_" not in test), key=lambda t: took[t])
        fast = set(own[: int(FAST * len(own))])
        tests.update({function: touching & fast for function, touching in tests.items()})

    mutmut.collect_or_load_stats = collect_fast
    os.environ["OMP_NUM_THREADS"] = "1"  # threads of processes side by side wait for each other
    mutmut._run(tuple(mutant.name for mutant in mutants), workers)
    codes: dict[str, int | None] = {}
    for path in {mutant.path for mutant in mutants}:
        codes |= json.loads(Path("mutants", f"{path}.meta").read_text())["exit_code_by_key"]
    # What ends Python, or pytest, is noticed as well.
    words = {**import_module("mutmut.stats").status_by_exit_code, -9: "timeout", -11: "killed"}
    found = {mutant.name: words.get(codes[mutant.name], "killed") for mutant in mutants}
    assert set(found.values()) <= set(COLUMNS), f"mutmut did not finish: {set(found.values())}"
    return found


def row(words: Sequence[str], total: int) -> dict[str, Any]:
    """Return counts, the share killed of the mutants counted, and its interval of Wilson (95 %)."""
    counts, z = Counter(words), 1.96
    n = len(words) - counts["equivalent"] - counts["message"] or 1
    share = (counts["killed"] + counts["timeout"]) / n
    middle = share + z * z / (2 * n)
    wide = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    interval = [(middle + end) / (1 + z * z / n) for end in (-wide, wide)]
    shown = {word: counts[word] for word in COLUMNS} | {"drawn": len(words)}
    return {"of": total, **shown, "share killed": share, "interval": interval}


def main() -> None:
    """Draw, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in {"each": 100, "seed": 0, "workers": os.cpu_count() or 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    os.chdir(ROOT)
    listed = tomllib.loads(Path("tools/mutants_excused.toml").read_text())["mutant"]
    samples = {package: drawn(package, asked.each, asked.seed) for package in PACKAGES}
    mutants = [mutant for sample, _ in samples.values() for mutant in sample]
    kinds = {m.name: m.excuse(listed) for m in mutants}
    counted = [mutant for mutant in mutants if kinds[mutant.name][0] in (None, "accepted")]
    words = {name: str(kind) for name, (kind, _) in kinds.items()}
    words |= verdicts(counted, asked.workers)
    rows = {p: row([words[m.name] for m in found], of) for p, (found, of) in samples.items()}
    print(f"\n{'package':12}", *(f"{head:>10}" for head in ("of", *COLUMNS)), "   share killed")
    for package, own in rows.items():
        low, high = own["interval"]
        share = f"   {own['share killed']:.1%} ({low:.1%} to {high:.1%})"
        print(f"{package:12}", *(f"{own[head]:>10}" for head in ("of", *COLUMNS)), share)
    missed = [m for m in counted if words[m.name] in ("survived", "no tests")]
    told = [(m.name, m.was, m.becomes, kinds[m.name][1]) for m in missed]
    survivors = [dict(zip(("name", "was", "becomes", "reason"), t, strict=True)) for t in told]
    for left in survivors:
        print("\n{name}\n- {was}\n+ {becomes}\n{reason}".format(**left))
    environment = {name: version(name) for name in ("chita", "torch", "numpy", "pytest", "mutmut")}
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip()
    environment |= {"python": sys.version.split()[0], "commit": commit}
    content = {"environment": environment, "seed": asked.seed, "results": rows}
    text = json.dumps(content | {"survivors": survivors}, indent=1, ensure_ascii=False)
    Path("benchmarks/results/mutants.json").write_text(text + "\n")
    sys.exit(any(own["share killed"] < LEAST for own in rows.values()))


if __name__ == "__main__":
    main()
