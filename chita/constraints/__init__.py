"""Which masks are allowed: what the user says (budgets), bound to one network (constraints)."""

from chita.constraints.constraint import Budget, Constraint
from chita.constraints.sparsity import KeepK, Nonzeros, Sparsity

__all__ = ["Budget", "Constraint", "KeepK", "Nonzeros", "Sparsity"]
