"""Which masks are allowed: what the user says (budgets), bound to one network (constraints)."""

from chita.constraints.allocation import Searched
from chita.constraints.blocks import Blocks, WholeBlocks
from chita.constraints.constraint import Budget, Constraint, Divisible
from chita.constraints.fixed import Exactly, FixedMasks
from chita.constraints.flops import Flops
from chita.constraints.groups import KeepKInGroups
from chita.constraints.keep_k import KeepK
from chita.constraints.max_loss import MaxLoss
from chita.constraints.megabytes import Megabytes
from chita.constraints.n_of_m import AtLeastNofM, NofM
from chita.constraints.outliers import ByOutliers
from chita.constraints.parse import as_budget, budget_of
from chita.constraints.per_layer import PerLayer, Quotas
from chita.constraints.per_output import PerOutput
from chita.constraints.sparsity import Nonzeros, Sparsity
from chita.constraints.under_flops import UnderFlops
from chita.constraints.within import Within

__all__ = [
    "AtLeastNofM",
    "Blocks",
    "Budget",
    "ByOutliers",
    "Constraint",
    "Divisible",
    "Exactly",
    "FixedMasks",
    "Flops",
    "KeepK",
    "KeepKInGroups",
    "MaxLoss",
    "Megabytes",
    "NofM",
    "Nonzeros",
    "PerLayer",
    "PerOutput",
    "Quotas",
    "Searched",
    "Sparsity",
    "UnderFlops",
    "WholeBlocks",
    "Within",
    "as_budget",
    "budget_of",
]
