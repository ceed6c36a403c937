"""`chita plan`: every tensor with the rule that matched it, and what pruning would cost."""

from __future__ import annotations

import json
from dataclasses import asdict

from chita.cli.feedback import stdout
from chita.cli.prune import solver_of
from chita.cli.requests import PlanRequest
from chita.cli.session import open_session
from chita.constraints import budget_of
from chita.pruning.plan import plan as plan_network
from chita.reports.terminal import show_plan


def plan(request: PlanRequest) -> None:
    """Show the plan of a run."""
    budget = budget_of(request.budget) if request.budget.given else None
    solver = solver_of(request)
    session = open_session(request, needs_data=False, needs_weights=False)
    found = plan_network(
        session.network,
        session.calibration,
        budget=budget,
        solver=solver,
        stages=request.stages,
        fisher=request.fisher,
        quadratic=request.quadratic,
        training=request.training,
        layerwise=request.run.layerwise,
        memory=request.memory,
        validation=request.run.validation,
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
