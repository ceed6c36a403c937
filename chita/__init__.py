"""Prune trained networks: which weights go, and how the rest change, chosen together.

Names are imported when they are first used, so that `import chita` and `chita --help` are quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chita import solvers as solvers
    from chita.constraints import Blocks as Blocks
    from chita.constraints import ByOutliers as ByOutliers
    from chita.constraints import Flops as Flops
    from chita.constraints import Megabytes as Megabytes
    from chita.constraints import NofM as NofM
    from chita.constraints import Nonzeros as Nonzeros
    from chita.constraints import PerLayer as PerLayer
    from chita.constraints import PerRow as PerRow
    from chita.constraints import Quotas as Quotas
    from chita.constraints import Searched as Searched
    from chita.constraints import Sparsity as Sparsity
    from chita.data.examples import Examples as Examples
    from chita.errors import CheckpointError as CheckpointError
    from chita.errors import ChitaError as ChitaError
    from chita.errors import InputError as InputError
    from chita.errors import NumericalError as NumericalError
    from chita.errors import OutputError as OutputError
    from chita.exports.export import Exported as Exported
    from chita.exports.export import export as export
    from chita.logger import TensorBoard as TensorBoard
    from chita.masks.enforce import Enforcer as Enforcer
    from chita.models.checkpoint import load as load
    from chita.models.zoo import load_model as load_model
    from chita.pruning.api import apply_masks as apply_masks
    from chita.pruning.api import prune as prune
    from chita.pruning.api import refit as refit
    from chita.pruning.config import Checkpoint as Checkpoint
    from chita.pruning.config import Fisher as Fisher
    from chita.pruning.config import Memory as Memory
    from chita.pruning.config import Quadratic as Quadratic
    from chita.pruning.plan import Plan as Plan
    from chita.pruning.plan import plan as plan
    from chita.pruning.result import PruneResult as PruneResult
    from chita.pruning.schedule import Stages as Stages
    from chita.pruning.sensitivity import Sensitivity as Sensitivity
    from chita.pruning.sensitivity import sensitivity as sensitivity
    from chita.pruning.verify import Verified as Verified
    from chita.pruning.verify import verify as verify
    from chita.runtimes.benchmark import benchmark as benchmark
    from chita.runtimes.csr import use_sparse as use_sparse
    from chita.runtimes.measured import Benchmark as Benchmark
    from chita.training.evaluate import Score as Score
    from chita.training.evaluate import evaluate as evaluate
    from chita.training.recipe import Training as Training

_HOMES = {
    "constraints": (
        *("Blocks", "ByOutliers", "Flops", "Megabytes", "NofM", "Nonzeros", "PerLayer", "PerRow"),
        *("Quotas", "Searched", "Sparsity"),
    ),
    "data.examples": ("Examples",),
    "errors": ("CheckpointError", "ChitaError", "InputError", "NumericalError", "OutputError"),
    "exports.export": ("Exported", "export"),
    "logger": ("TensorBoard",),
    "masks.enforce": ("Enforcer",),
    "models.checkpoint": ("load",),
    "models.zoo": ("load_model",),
    "pruning.api": ("apply_masks", "prune", "refit"),
    "pruning.config": ("Checkpoint", "Fisher", "Memory", "Quadratic"),
    "pruning.plan": ("Plan", "plan"),
    "pruning.result": ("PruneResult",),
    "pruning.schedule": ("Stages",),
    "pruning.sensitivity": ("Sensitivity", "sensitivity"),
    "pruning.verify": ("Verified", "verify"),
    "runtimes.benchmark": ("benchmark",),
    "runtimes.csr": ("use_sparse",),
    "runtimes.measured": ("Benchmark",),
    "training.evaluate": ("Score", "evaluate"),
    "training.recipe": ("Training",),
}
"""Module below `chita` to the names that it gives to the package."""

_MODULES = {name: f"chita.{home}" for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_MODULES, "solvers"])  # noqa: PLE0605 (from the table above)


def __getattr__(name: str) -> Any:
    """Import a name where it is first used."""
    if name == "solvers":
        return import_module("chita.solvers")
    if name not in _MODULES:
        raise AttributeError(f"module 'chita' has no attribute {name!r}")
    found = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__]
