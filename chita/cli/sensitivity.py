"""`chita sensitivity`: by how much the loss grows with each tensor pruned by itself."""

from __future__ import annotations

from functools import partial

from chita.cli.feedback import stdout
from chita.cli.requests import SensitivityRequest
from chita.cli.session import notice_overruled, open_session
from chita.exports.run_folder import check_sensitivity_target
from chita.pruning.run import PruneConfig
from chita.pruning.sensitivity import sensitivity_of
from chita.reports.picture import check_picture, write_picture
from chita.reports.run_charts import heat_of
from chita.reports.terminal import show_sensitivity
from chita.solvers.named import make_solver


def sensitivity(request: SensitivityRequest) -> None:
    """Measure as asked, show the table, and write it."""
    asked, feedback = request.sensitivity, request.report.feedback
    config = PruneConfig(
        solver=make_solver(request.solver.solver, request.solver.options, request.run.seed),
        stages=request.stages,
        fisher=request.fisher,
        quadratic=request.quadratic,
        validation=request.run.validation,
        targets=request.selection.targets,
        ignore=request.selection.ignore,
        seed=request.run.seed,
    )
    if asked.out:
        check_sensitivity_target(asked.out, force=asked.force)
    if asked.plot:
        check_picture(asked.plot)
    session = open_session(request)
    calibration = session.calibrated()
    notice_overruled(session, request)
    config = session.completed(config)
    found = sensitivity_of(session.network, calibration, config, asked.sparsities)
    found = found.described(**session.described(request, found.record.seconds))
    if asked.out:
        found.save(asked.out, force=asked.force)
    record, every = found.record, request.report.all_layers
    table = partial(show_sensitivity, record, stdout, all_layers=every)
    request.report.show(record.model_dump_json(), table)
    if asked.plot:
        write_picture([heat_of(record.levels)], asked.plot)
    for path in filter(None, (asked.out, asked.plot)):
        feedback.notice(f"Written: {path}")
