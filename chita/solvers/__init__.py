"""The table of solvers: one file and one line per solver.

>>> SOLVERS["iht"](max_iterations=7)
IHT(bound=False, max_iterations=7, tolerance=1e-06, max_doublings=5, lipschitz=None)
"""

from __future__ import annotations

from chita.solvers.active_set import ActiveSet
from chita.solvers.alps import ALPS
from chita.solvers.block_bso import BlockBSO
from chita.solvers.bso import BSO
from chita.solvers.cbs import CBS
from chita.solvers.cd import CD
from chita.solvers.chita import CHITA
from chita.solvers.iht import IHT
from chita.solvers.local_search import LocalSearch
from chita.solvers.magnitude import Magnitude
from chita.solvers.mfac import MFAC
from chita.solvers.obc import OBC
from chita.solvers.obd import OBD
from chita.solvers.random import Random
from chita.solvers.snip import SNIP
from chita.solvers.solver import Effort, Found, Solution, Solver, Stats, Status
from chita.solvers.sparsegpt import SparseGPT
from chita.solvers.wanda import Wanda
from chita.solvers.woodfisher import WoodFisher

SOLVERS: dict[str, type[Solver]] = {
    "magnitude": Magnitude,
    "bso": BSO,
    "block-bso": BlockBSO,
    "cd": CD,
    "iht": IHT,
    "active-set": ActiveSet,
    "chita": CHITA,
    "local-search": LocalSearch,
    "obd": OBD,
    "woodfisher": WoodFisher,
    "mfac": MFAC,
    "cbs": CBS,
    "alps": ALPS,
    "obc": OBC,
    "sparsegpt": SparseGPT,
    "wanda": Wanda,
    "snip": SNIP,
    "random": Random,
}
"""Every method, by its name on the command line."""

__all__ = [
    "ALPS",
    "BSO",
    "CBS",
    "CD",
    "CHITA",
    "IHT",
    "MFAC",
    "OBC",
    "OBD",
    "SNIP",
    "SOLVERS",
    "ActiveSet",
    "BlockBSO",
    "Effort",
    "Found",
    "LocalSearch",
    "Magnitude",
    "Random",
    "Solution",
    "Solver",
    "SparseGPT",
    "Stats",
    "Status",
    "Wanda",
    "WoodFisher",
]
