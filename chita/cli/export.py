"""`chita export`: a run as a file for some program, checked."""

from __future__ import annotations

from dataclasses import asdict

from chita.cli.feedback import stdout
from chita.cli.reopened import open_run, run_folder
from chita.cli.requests import ExportRequest
from chita.exports.export import export as export_network
from chita.exports.export import find_kind, write_kind
from chita.exports.kind import Pruned
from chita.exports.placing import check_export_target
from chita.masks.storage import load_masks, mask_file
from chita.models.checkpoint import load
from chita.progress import track
from chita.reports.terminal import show_export


def export(request: ExportRequest) -> None:
    """Write the file, and show what it was found to hold."""
    asked = request.export
    kind = find_kind(asked.to)
    check_export_target(kind, asked.out, force=asked.force)
    masks = load_masks(mask_file(run_folder(asked.run)))
    with track(request.report.feedback.progress(), "write and compare", 1, "file") as shown:
        if not kind.needs_network:
            pruned = Pruned(tensors=load(asked.run), masks=masks, values=asked.values)
            found = write_kind(kind, pruned, asked.out, force=asked.force)
        else:
            session = open_run(asked.run, request)
            found = export_network(
                session.network,
                asked.out,
                asked.to,
                inputs=session.inputs(asked.batch),
                masks=masks,
                values=asked.values,
                force=asked.force,
            )
        shown.advance(1)
    data = asdict(found)
    request.report.show(data, lambda: show_export(data, stdout))
