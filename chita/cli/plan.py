"""`chita plan`: every tensor with the rule that matched it, and what pruning would cost."""

from __future__ import annotations

from dataclasses import asdict

from chita.cli.feedback import stdout
from chita.cli.prune import config_of
from chita.cli.requests import PlanRequest
from chita.cli.session import open_session
from chita.pruning.plan import plan_of
from chita.reports.terminal import show_plan


def plan(request: PlanRequest) -> None:
    """Show the plan of a run."""
    config = config_of(request, needs_budget=False)
    session = open_session(request, needs_data=False, needs_weights=False)
    config = session.completed(config)
    measured = session.evaluation, session.count
    found = plan_of(session.network, session.calibration, config, *measured)
    data, name, every = asdict(found), request.network.model, request.report.all_layers
    request.report.show(data, lambda: show_plan(name, data, stdout, all_layers=every))
