"""Whether the default solver is ever worse than its peers, on small problems and the whole table.

Usage: python benchmarks/peers.py
Writes benchmarks/results/peers.json. No theorem says that chita is never the worse one: it may end
in another local minimum. `cases` are the problems that a peer solves, too; `better`, `equal` (to
1e-7 of the objective) and `worse` count how chita compares; `margin` is the median, and `worst` the
least, of (theirs - ours)/|theirs| in per cent. `optimum` counts the cases in which chita meets the
optimum, among those where brute force knows it.
"""

import json
import statistics
import sys
from itertools import product
from pathlib import Path

from chita.constraints import KeepK
from chita.records import versions
from chita.solvers import BSO, CD, CHITA, IHT
from chita.solvers.baselines import ActiveSet

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.conformance.table import BUDGETS, CURVATURES, LAYOUT
from tests.problems import INSTANCES, random_problem

RESULTS = Path(__file__).parent / "results"
EQUAL = 1e-7
PEERS = {
    "iht": IHT(),
    "cd": CD(),
    "active-set": ActiveSet(),
    "active-set of bso": ActiveSet(solver=BSO()),
}
SMALL = INSTANCES + [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(40, 300, 60), (40, 300, 15), (30, 200, 100), (200, 100, 30)]
    for first_order in (0.0, 1.0)
    for ridge in (1e-3, 0.1, 1.0)
    for seed in range(2)
]


def small_problems():
    """Random problems with a known seed."""
    for n, p, k, first_order, ridge, seed in SMALL:
        problem, _ = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
        yield problem, KeepK(size=p, k=k)


def table_problems():
    """Every curvature with every budget of the conformance table."""
    for curvature, budget in product(CURVATURES, BUDGETS):
        if curvature != "NoCurvature":
            yield CURVATURES[curvature](), BUDGETS[budget].bind(LAYOUT)


def optima():
    """How many of the problems whose optimum is known by brute force chita solves to it."""
    met = 0
    for n, p, k, first_order, ridge, seed in INSTANCES:
        problem, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed)
        best = dense.best(k)
        met += CHITA().solve(problem, KeepK(size=p, k=k)).objective <= best + EQUAL * abs(best)
    return {"cases": len(INSTANCES), "met": met}


def compared(problems):
    """What chita and its peers find, by peer."""
    margins = {peer: [] for peer in PEERS}
    for problem, constraint in problems:
        ours = CHITA().solve(problem, constraint).objective
        for peer, solver in PEERS.items():
            if solver.takes(type(problem.curvature)):
                theirs = solver.solve(problem, constraint).objective
                margins[peer].append((theirs - ours) / max(abs(theirs), 1e-12))
    return {
        peer: {
            "cases": len(found),
            "better": sum(margin > EQUAL for margin in found),
            "equal": sum(abs(margin) <= EQUAL for margin in found),
            "worse": sum(margin < -EQUAL for margin in found),
            "margin": 100 * statistics.median(found),
            "worst": 100 * min(found),
        }
        for peer, found in margins.items()
    }


def main():
    """Compare, print, write."""
    results = {"small": compared(small_problems()), "table": compared(table_problems())}
    for problems, peers in results.items():
        for peer, found in peers.items():
            counts = ", ".join(f"{found[word]} {word}" for word in ("better", "equal", "worse"))
            print(f"{problems}: chita beside {peer}, {found['cases']} cases: {counts}")
    known = optima()
    print(f"the optimum is met in {known['met']} of {known['cases']} cases")
    text = json.dumps({"environment": versions(), "optimum": known, **results}, indent=1)
    (RESULTS / "peers.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
