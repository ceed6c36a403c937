"""Faults to seed in options, and in what is generated from them; see `faults.py`."""

from __future__ import annotations

GENERATED, REFUSALS = "tests/cli/test_generated.py", "tests/pruning/test_refusals.py"
NETWORK, BAD_INPUT = "tests/pruning/test_network.py", "tests/cli/test_bad_input.py"
PUBLIC, GROUPED = "tests/test_public.py", "tests/reports/test_grouped.py"
BOUND, CLI = "tests/problem/test_bound.py", "tests/cli/test_cli.py"

FAULTS_OF_OPTIONS = [
    ("options.py", "            if self._within(whole):", "            if True:", REFUSALS),
    ("options.py", "return operator.index(value)", "return int(value)", REFUSALS),
    ("options.py", "number <= spec.above)", "number < spec.above)", "tests/training/test_recipe.py"),
    ("options.py", "            except InputError as error:\n", "            except ZeroDivisionError as error:\n", PUBLIC),
    ("options.py", "default=None if f.default is MISSING else f.default", "default=None", GENERATED),
    ("options.py", "e.flag: plain(getattr(", "e.name: plain(getattr(", PUBLIC),
    ("settings.py", "gone = budgets if budgets & chosen.keys() else set()", "gone = set()", GENERATED),
    ("settings.py", 'gone |= {"options"}', "pass", GENERATED),
    ("settings.py", "elif known[name].name in labels:", "elif False:", f"{BAD_INPUT} -k run_files"),
    ("settings.py", "    if unknown:\n", "    if False:\n", GENERATED),
    ("cli/generated.py", "merged(kind, stored, chosen)", "merged(kind, chosen, stored)", GENERATED),
    ("cli/generated.py", "flags.get(found[1], found[0])", "found[0]", CLI),
    ("__init__.py", "__all__ = sorted(", "import torch\n\n__all__ = sorted(", PUBLIC),
    ("solvers/named.py", 'own = f"{kind.__module__}:{kind.__qualname__}"', "own = kind.__name__", PUBLIC),
    ("solvers/solver.py", "return replace(self, bound=False, **inside)", "return replace(self, bound=False)", BOUND),
    ("reports/grouped.py", "setdefault((pattern, kind), [])", "setdefault((pattern, 0), [])", GROUPED),
]  # fmt: skip
