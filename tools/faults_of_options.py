"""Faults to seed in options, and in what is generated from them; see `faults.py`."""

from __future__ import annotations

GENERATED, REFUSALS = "tests/cli/test_generated.py", "tests/pruning/test_refusals.py"
POSE, BAD_INPUT = "tests/pruning/test_pose.py", "tests/cli/test_bad_input.py -k run_files"
PUBLIC, GROUPED = "tests/test_public.py", "tests/reports/test_grouped.py"
OWN = "tests/cli/test_own_solver.py"
INSIDE, CLI = "tests/conformance/test_solvers.py -k inside", "tests/cli/test_cli.py"

FAULTS_OF_OPTIONS = [
    ("options.py", "            if self._within(whole):", "            if True:", REFUSALS),
    ("options.py", "return operator.index(value)", "return int(value)", REFUSALS),
    ("options.py", "if isinstance(value, bool):\n            if bool in kinds:", "if isinstance(value, bool) and bool in kinds:\n            if True:", POSE),
    ("options.py", "            except InputError as error:\n", "            except ZeroDivisionError as error:\n", PUBLIC),
    ("options.py", "default=None if f.default is MISSING else f.default", "default=None", GENERATED),
    ("options.py", "e.flag: plain(getattr(", "e.name: plain(getattr(", PUBLIC),
    ("settings.py", "gone = budgets if budgets & chosen.keys() else set()", "gone = set()", GENERATED),
    ("settings.py", 'gone |= {"options"}', "pass", GENERATED),
    ("settings.py", "if name in known and known[name] in labels:", "if False:", BAD_INPUT),
    ("settings.py", "    if unknown:\n", "    if False:\n", GENERATED),
    ("cli/generated.py", "merged(kind, stored, chosen)", "merged(kind, chosen, stored)", GENERATED),
    ("cli/generated.py", "flags.get(found[1], found[0])", "found[0]", CLI),
    ("__init__.py", "__all__ = sorted(", "import torch\n\n__all__ = sorted(", PUBLIC),
    ("solvers/named.py", 'own = f"{kind.__module__}:{kind.__qualname__}"', "own = kind.__name__", OWN),
    ("solvers/solver.py", "return replace(self, bound=False, **inside)", "return replace(self, bound=False)", INSIDE),
    ("reports/grouped.py", "setdefault((pattern, kind), {})", "setdefault((pattern, 0), {})", GROUPED),
]  # fmt: skip
