"""`chita refit`: the best weights for a given mask."""

from __future__ import annotations

import time

from chita.cli.requests import RefitRequest
from chita.cli.session import open_session, recorded, show_result
from chita.exports.run_folder import check_target
from chita.pruning.run import open_refit


def refit(request: RefitRequest) -> None:
    """Refit as asked, and show what came of it."""
    began = time.perf_counter()
    if request.output.out:
        check_target(request.output.out, force=request.output.force)
    session = open_session(request)
    opened = open_refit(
        session.network,
        session.calibrated(),
        session.masks(request.mask.mask),
        fisher=request.fisher,
        quadratic=request.quadratic,
        stages=request.stages,
        validation=request.run.validation,
        loss=session.loss,
        seed=request.run.seed,
        inplace=False,
        progress=session.progress,
    )
    show_result(recorded(session, opened.run(session.score), request, began), request)
