"""Solvers to compare with: each lies behind another here, or is a part of one.

>>> BASELINES["random"](seed=3)
Random(bound=False, seed=3)
"""

from __future__ import annotations

from chita.solvers.baselines.active_set import ActiveSet
from chita.solvers.baselines.block_bso import BlockBSO
from chita.solvers.baselines.local_search import LocalSearch
from chita.solvers.baselines.mfac import MFAC
from chita.solvers.baselines.obd import OBD
from chita.solvers.baselines.random import Random
from chita.solvers.baselines.snip import SNIP
from chita.solvers.solver import Solver

BASELINES: dict[str, type[Solver]] = {
    "block-bso": BlockBSO,
    "active-set": ActiveSet,
    "local-search": LocalSearch,
    "obd": OBD,
    "mfac": MFAC,
    "snip": SNIP,
    "random": Random,
}
"""Every baseline, by its name on the command line."""

__all__ = ["BASELINES", "MFAC", "OBD", "SNIP", "ActiveSet", "BlockBSO", "LocalSearch", "Random"]
