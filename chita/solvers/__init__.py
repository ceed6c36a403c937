"""The table of solvers: one file and one line per solver.

>>> SOLVERS["iht"](max_iterations=7)
IHT(bound=False, max_iterations=7, tolerance=1e-06, max_doublings=5, lipschitz=None)
"""

from __future__ import annotations

from chita.solvers.alps import ALPS
from chita.solvers.baselines import BASELINES
from chita.solvers.bso import BSO
from chita.solvers.cbs import CBS
from chita.solvers.cd import CD
from chita.solvers.chita import CHITA
from chita.solvers.iht import IHT
from chita.solvers.magnitude import Magnitude
from chita.solvers.obc import OBC
from chita.solvers.solver import Effort, Found, Solution, Solver, Stats, Status
from chita.solvers.sparsegpt import SparseGPT
from chita.solvers.wanda import Wanda
from chita.solvers.woodfisher import WoodFisher

SOLVERS: dict[str, type[Solver]] = {
    "magnitude": Magnitude,
    "bso": BSO,
    "cd": CD,
    "iht": IHT,
    "chita": CHITA,
    "woodfisher": WoodFisher,
    "cbs": CBS,
    "alps": ALPS,
    "obc": OBC,
    "sparsegpt": SparseGPT,
    "wanda": Wanda,
    **BASELINES,
}
"""Every solver, by its name on the command line; the baselines last."""

__all__ = [
    "ALPS",
    "BASELINES",
    "BSO",
    "CBS",
    "CD",
    "CHITA",
    "IHT",
    "OBC",
    "SOLVERS",
    "Effort",
    "Found",
    "Magnitude",
    "Solution",
    "Solver",
    "SparseGPT",
    "Stats",
    "Status",
    "Wanda",
    "WoodFisher",
]
