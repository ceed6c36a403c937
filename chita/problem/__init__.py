"""The l0-constrained quadratic model of the loss: rows, curvature, quadratic."""

from chita.problem.block_gram import BlockGram
from chita.problem.bound import lower_bound
from chita.problem.curvature import Curvature, Factor, NoCurvature
from chita.problem.gradient_gram import GradientGram
from chita.problem.input_gram import InputGram
from chita.problem.prices import Prices
from chita.problem.quadratic import LocalQuadratic, Minimum
from chita.problem.rows import (
    DenseRows,
    FactoredRows,
    HStackRows,
    PositionedRows,
    Positions,
    Rows,
    VStackRows,
)

__all__ = [
    "BlockGram",
    "Curvature",
    "DenseRows",
    "Factor",
    "FactoredRows",
    "GradientGram",
    "HStackRows",
    "InputGram",
    "LocalQuadratic",
    "Minimum",
    "NoCurvature",
    "PositionedRows",
    "Positions",
    "Prices",
    "Rows",
    "VStackRows",
    "lower_bound",
]
