"""`chita verify`: whether zeros are still zeros."""

from __future__ import annotations

import json
from dataclasses import asdict

from chita.cli.feedback import stderr, stdout
from chita.cli.requests import VerifyRequest
from chita.exports.verify import verify as verified
from chita.progress.lines import say


def verify(request: VerifyRequest) -> int:
    """Check a file, show what was found, and return 1 where something is wrong."""
    asked = request.verify
    found = verified(asked.path, asked.mask, allow_pickle=asked.allow_pickle)
    if request.report.json:
        print(json.dumps(asdict(found)))
    else:
        for fault in found.faults:
            say(stderr, fault)
        told = f"{len(found.faults)} faults" if found.faults else "all as it should be"
        counts = f"{found.kept:,} weights kept and {found.removed:,} removed"
        checked = f"{', '.join(found.checked)} of {found.tensors} tensors"
        say(stdout, f"{asked.path}: {checked}, {counts}: {told}")
    return 1 if found.faults else 0
