"""Which masks are allowed: what the user says (budgets), bound to one network (constraints)."""

from chita.constraints.constraint import Budget, Constraint
from chita.constraints.fixed import Exactly, FixedMasks
from chita.constraints.floors import KeepKWithFloors
from chita.constraints.keep_k import KeepK
from chita.constraints.sparsity import Nonzeros, Sparsity
from chita.constraints.within import Within

__all__ = [
    "Budget",
    "Constraint",
    "Exactly",
    "FixedMasks",
    "KeepK",
    "KeepKWithFloors",
    "Nonzeros",
    "Sparsity",
    "Within",
]
