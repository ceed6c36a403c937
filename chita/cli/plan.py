"""`chita plan`: every tensor with the rule that matched it, and what pruning would cost."""

from __future__ import annotations

import json
from dataclasses import asdict

from chita.cli.requests import PlanRequest
from chita.cli.session import open_session
from chita.constraints import budget_of
from chita.progress.screen import stdout
from chita.pruning.plan import plan as plan_network
from chita.reports.terminal import show_plan
from chita.solvers.named import make_solver


def plan(request: PlanRequest) -> None:
    """Show the plan of a run."""
    budget = budget_of(request.budget) if request.budget.given else None
    solver = make_solver(request.solver.solver, request.solver.options, request.run.seed)
    session = open_session(request, needs_data=False, needs_weights=False)
    found = plan_network(
        session.network,
        session.calibration,
        budget=budget,
        solver=solver,
        stages=request.stages,
        fisher=request.fisher,
        training=request.training,
        layerwise=request.run.layerwise,
        targets=request.selection.targets,
        ignore=request.selection.ignore,
        loss=session.loss,
    )
    if request.report.json:
        print(json.dumps(asdict(found)))
    else:
        show_plan(
            request.network.model, asdict(found), stdout, all_layers=request.report.all_layers
        )
