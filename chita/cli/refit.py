"""`chita refit`: the best weights for a given mask."""

from __future__ import annotations

from chita.cli.requests import RefitRequest
from chita.cli.session import open_to_write, recorded, show_result
from chita.pruning.api import perform
from chita.pruning.opening import open_refit
from chita.pruning.run import PruneConfig
from chita.solvers import BSO


def refit(request: RefitRequest) -> None:
    """Refit as asked, and show what came of it."""
    session = open_to_write(request)
    data, masks = session.calibrated(), session.masks(request.mask.mask)
    config = PruneConfig(
        solver=BSO(),
        fisher=request.fisher,
        quadratic=request.quadratic,
        stages=request.stages,
        validation=request.run.validation,
        seed=request.run.seed,
    )
    run = open_refit(session.network, data, masks, session.completed(config))
    result = perform(run, session.score, check=session.check)
    show_result(recorded(session, result, request), request)
