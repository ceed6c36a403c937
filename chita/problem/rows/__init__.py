"""The matrix A of row gradients: one file per place where it may live."""

from chita.problem.rows.dense import DenseRows
from chita.problem.rows.factored import FactoredRows
from chita.problem.rows.hstack import HStackRows
from chita.problem.rows.positioned import PositionedRows, Positions
from chita.problem.rows.rows import Rows
from chita.problem.rows.vstack import VStackRows

__all__ = [
    "DenseRows",
    "FactoredRows",
    "HStackRows",
    "PositionedRows",
    "Positions",
    "Rows",
    "VStackRows",
]
