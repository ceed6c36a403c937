"""Prune trained networks: which weights go, and how the rest change, chosen together."""

from chita.constraints import Nonzeros, Sparsity
from chita.data.batches import Examples
from chita.errors import (
    CheckpointError,
    ChitaError,
    InputError,
    NumericalError,
    OutputError,
)
from chita.models.zoo import load_model
from chita.pruning.network import prune
from chita.pruning.result import PruneResult
from chita.solvers import BSO, CHITA, IHT, Magnitude
from chita.training.evaluate import accuracy

__all__ = [
    "BSO",
    "CHITA",
    "IHT",
    "CheckpointError",
    "ChitaError",
    "Examples",
    "InputError",
    "Magnitude",
    "Nonzeros",
    "NumericalError",
    "OutputError",
    "PruneResult",
    "Sparsity",
    "accuracy",
    "load_model",
    "prune",
]
