"""`chita verify`: whether zeros are still zeros."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from chita.cli.feedback import stderr, stdout
from chita.cli.requests import VerifyRequest
from chita.exports.verify import Verified
from chita.exports.verify import verify as verified
from chita.progress import track
from chita.progress.lines import say


def verify(request: VerifyRequest) -> int:
    """Check a file, show what was found, and return 1 where something is wrong."""
    asked = request.verify
    with track(request.report.feedback.progress(), "verify", 1, "file") as shown:
        found = verified(asked.path, asked.mask, allow_pickle=asked.allow_pickle)
        shown.advance(1)
    request.report.show(asdict(found), lambda: _show(asked.path, found))
    return 1 if found.faults else 0


def _show(path: Path, found: Verified) -> None:
    for fault in found.faults:
        say(stderr, fault)
    told = f"{len(found.faults)} faults" if found.faults else "all as it should be"
    counts = f"{found.kept:,} weights kept and {found.removed:,} removed"
    checked = f"{', '.join(found.checked)} of {found.tensors} tensors"
    say(stdout, f"{path}: {checked}, {counts}: {told}")
