"""Prune trained networks: which weights go, and how the rest change, chosen together."""

from chita.constraints import Nonzeros, Sparsity
from chita.data.examples import Examples
from chita.errors import (
    CheckpointError,
    ChitaError,
    InputError,
    NumericalError,
    OutputError,
)
from chita.exports.export import Exported, export
from chita.logger import TensorBoard
from chita.masks.enforce import Enforcer
from chita.models.checkpoint import load
from chita.models.zoo import load_model
from chita.pruning.network import prune
from chita.pruning.plan import Plan, plan
from chita.pruning.refit import apply_masks, refit
from chita.pruning.result import PruneResult
from chita.pruning.sensitivity import Sensitivity, sensitivity
from chita.runtimes.benchmark import benchmark
from chita.runtimes.csr import use_sparse
from chita.runtimes.measured import Benchmark
from chita.solvers import BSO, CD, CHITA, IHT, Magnitude
from chita.training.evaluate import Score, evaluate
from chita.training.recipe import Training

__all__ = [
    "BSO",
    "CD",
    "CHITA",
    "IHT",
    "Benchmark",
    "CheckpointError",
    "ChitaError",
    "Enforcer",
    "Examples",
    "Exported",
    "InputError",
    "Magnitude",
    "Nonzeros",
    "NumericalError",
    "OutputError",
    "Plan",
    "PruneResult",
    "Score",
    "Sensitivity",
    "Sparsity",
    "TensorBoard",
    "Training",
    "apply_masks",
    "benchmark",
    "evaluate",
    "export",
    "load",
    "load_model",
    "plan",
    "prune",
    "refit",
    "sensitivity",
    "use_sparse",
]
