"""`chita apply`: a saved mask on another checkpoint."""

from __future__ import annotations

import time

from chita.cli.requests import ApplyRequest
from chita.cli.session import open_session, recorded, show_result
from chita.exports.run_folder import check_target
from chita.pruning.run import open_apply


def apply(request: ApplyRequest) -> None:
    """Put a mask on a network, and show what came of it."""
    began = time.perf_counter()
    if request.output.out:
        check_target(request.output.out, force=request.output.force)
    session = open_session(request, needs_data=False)
    masks = session.masks(request.mask.mask)
    opened = open_apply(session.network, masks, inplace=False, progress=session.progress)
    show_result(recorded(session, opened.run(session.score), request, began), request)
