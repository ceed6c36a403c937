"""`chita report`: one page, and pictures, of what runs did."""

from __future__ import annotations

from chita.cli.requests import PageRequest
from chita.errors import InputError
from chita.files import check_file, write_text
from chita.reports.page import make_report, page_of
from chita.reports.picture import write_pictures
from chita.reports.runs import read_runs


def report(request: PageRequest) -> None:
    """Read the records of runs, and write the page."""
    asked, out = request.page, request.page.out
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"`out` is {out}; give a name that ends in .html.")
    check_file(out, force=True)
    feedback = request.report.feedback
    reading = read_runs(asked.runs)
    for problem in reading.skipped:
        feedback.notice(f"Left out: {problem}")
    found = make_report(reading)
    write_text(out, page_of(found))
    feedback.notice(f"Written: {out}")
    if asked.plots is not None:
        write_pictures(found.charts, asked.plots)
        feedback.notice(f"Written: {len(found.charts)} plots in {asked.plots}")
