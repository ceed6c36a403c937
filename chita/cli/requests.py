"""Requests of all commands: groups of options, from which all else is generated."""

from __future__ import annotations

from chita.budget_options import BudgetOptions
from chita.cli import options as own
from chita.pruning.config import Fisher, Memory, Quadratic, RunOptions
from chita.pruning.schedule import Stages
from chita.settings import Request, part
from chita.training.recipe import Training

_OF_RUN = "that of the run"


class Pruning(Request):
    """The options that a run and its plan have in common."""

    network: own.NetworkOptions
    data: own.DataOptions
    evaluation: own.EvaluationOptions
    budget: BudgetOptions
    selection: own.SelectionOptions
    solver: own.SolverOptions
    stages: Stages
    fisher: Fisher
    quadratic: Quadratic
    run: RunOptions
    training: Training | None
    memory: Memory


class PruneRequest(Pruning):
    """Prune a network, at once or in stages, and measure it before and after."""

    output: own.OutputOptions
    report: own.ReportOptions


class PlanRequest(Pruning):
    """Show what chita prune would do with the same options, and what it would cost."""

    output: own.OutputOptions = part(shown=False)
    report: own.ReportOptions = part(without=("tensorboard",))


class SensitivityRequest(Request):
    """Prune each tensor by itself to several sparsities, and show by how much the loss grows."""

    sensitivity: own.SensitivityOptions
    network: own.NetworkOptions
    data: own.DataOptions
    selection: own.SelectionOptions
    solver: own.SolverOptions
    stages: Stages = part("bn_recalibrate")
    fisher: Fisher = part(without=("history",))
    quadratic: Quadratic = part(without=("first_order",))
    run: RunOptions = part(without=("layerwise",))
    report: own.ReportOptions = part(without=("tensorboard",))


class RefitRequest(Request):
    """Give the weights that a mask keeps their best values; --weights are those before the mask."""

    mask: own.MaskOptions
    network: own.NetworkOptions
    data: own.DataOptions
    evaluation: own.EvaluationOptions
    stages: Stages = part("bn_recalibrate")
    fisher: Fisher = part(without=("history",))
    quadratic: Quadratic
    run: RunOptions = part(without=("layerwise",))
    output: own.OutputOptions = part(without=("resume",))
    report: own.ReportOptions = part(without=("tensorboard",))


class ApplyRequest(Request):
    """Set to zero what a mask removes, change nothing else, and measure it."""

    mask: own.MaskOptions
    network: own.NetworkOptions
    data: own.DataOptions
    evaluation: own.EvaluationOptions
    run: RunOptions = part("seed")
    output: own.OutputOptions = part(without=("resume",))
    report: own.ReportOptions = part(without=("tensorboard",))


class EvaluateRequest(Request):
    """Measure a network on its evaluation data, and count its zeros."""

    network: own.NetworkOptions
    data: own.DataOptions
    evaluation: own.EvaluationOptions
    run: RunOptions = part("seed")
    report: own.ReportOptions = part("json", "quiet", "log_format")


WritingRequest = PruneRequest | RefitRequest | ApplyRequest
"""What may write a run folder."""

LoadingRequest = WritingRequest | PlanRequest | SensitivityRequest | EvaluateRequest
"""What names a network and its data."""


class VerifyRequest(Request):
    """Check zeros, and of a run folder counts, pattern and hashes; exit code 1 where one fails."""

    verify: own.VerifyOptions = part(positional=("path",))
    report: own.ReportOptions = part("json")


class SweepRequest(Request):
    """Prune by every combination of some options; go on where an earlier sweep was stopped."""

    sweep: own.SweepOptions = part(positional=("grid",))
    report: own.ReportOptions = part("quiet", "log_format")


class PageRequest(Request):
    """Show on one page what runs did, from only their records; many runs are compared."""

    page: own.PageOptions = part(positional=("runs",))
    report: own.ReportOptions = part("quiet", "log_format")


class ExportRequest(Request):
    """Write a run for some program, read it again, and compare it with the pruned network."""

    export: own.ExportOptions = part(positional=("run",))
    network: own.ReopenedOptions = part(unset=_OF_RUN)
    data: own.DataOptions = part(without=("loss",), unset=_OF_RUN)
    report: own.ReportOptions = part("json", "quiet", "log_format")


class BenchmarkRequest(Request):
    """Measure dense against pruned where they will run: one thread, side by side, and files."""

    benchmark: own.BenchmarkOptions = part(positional=("run",))
    network: own.ReopenedOptions = part(unset=_OF_RUN)
    data: own.DataOptions = part(without=("loss",), unset=_OF_RUN)
    report: own.ReportOptions = part("json", "quiet", "log_format")


class SolversRequest(Request):
    """List the solvers, or the options of one, which --option name=value sets."""

    solvers: own.NamedSolver = part(positional=("name",))


class ModelsRequest(Request):
    """List the named networks."""


class DemoRequest(Request):
    """Prune the two shipped networks at five sparsities and show what is left of them."""

    report: own.ReportOptions = part("quiet", "log_format")
