"""`chita apply`: a saved mask on another checkpoint."""

from __future__ import annotations

from chita.cli.requests import ApplyRequest
from chita.cli.session import open_to_write, recorded, show_result
from chita.pruning.api import perform
from chita.pruning.opening import open_apply
from chita.pruning.run import PruneConfig
from chita.solvers import Magnitude


def apply(request: ApplyRequest) -> None:
    """Put a mask on a network, and show what came of it."""
    session = open_to_write(request, needs_data=False)
    masks = session.masks(request.mask.mask)
    config = session.completed(PruneConfig(solver=Magnitude()))
    result = perform(open_apply(session.network, masks, config), session.score, check=session.check)
    show_result(recorded(session, result, request), request)
