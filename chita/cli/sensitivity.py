"""`chita sensitivity`: by how much the loss grows with each tensor pruned by itself."""

from __future__ import annotations

from chita.cli.feedback import stdout
from chita.cli.requests import SensitivityRequest
from chita.cli.session import notice_overruled, open_session
from chita.exports.run_folder import check_sensitivity_target
from chita.pruning.sensitivity import sensitivity as measure
from chita.reports.picture import check_picture, write_picture
from chita.reports.run_charts import heat_of
from chita.reports.terminal import show_sensitivity
from chita.solvers.named import make_solver


def sensitivity(request: SensitivityRequest) -> None:
    """Measure as asked, show the table, and write it."""
    asked, feedback = request.sensitivity, request.report.feedback
    solver = make_solver(request.solver.solver, request.solver.options, request.run.seed)
    if asked.out:
        check_sensitivity_target(asked.out, force=asked.force)
    if asked.plot:
        check_picture(asked.plot)
    session = open_session(request)
    calibration = session.calibrated()
    notice_overruled(session, request)
    found = measure(
        session.network,
        calibration,
        sparsities=asked.sparsities,
        solver=solver,
        targets=request.selection.targets,
        ignore=request.selection.ignore,
        fisher=request.fisher,
        quadratic=request.quadratic,
        stages=request.stages,
        validation=request.run.validation,
        loss=session.loss,
        seed=request.run.seed,
        progress=session.progress,
    )
    found = found.described(**session.described(request, found.record.seconds))
    if asked.out:
        found.save(asked.out, force=asked.force)
    if request.report.json:
        print(found.record.model_dump_json())
    else:
        show_sensitivity(found.record, stdout, all_layers=request.report.all_layers)
    if asked.plot:
        write_picture([heat_of(found.record.levels)], asked.plot)
    for path in filter(None, (asked.out, asked.plot)):
        feedback.notice(f"Written: {path}")
