"""Kinds of files that a runtime reads: what they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from chita.exports.checks import verify_file
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.runtime import FileRuntime


class Graph(Kind):
    """A file for a runtime, in which it is opened and run to check it."""

    runtime: ClassVar[FileRuntime]

    def missing(self) -> str | None:
        """The runtime and its converter must be installed."""
        return self.runtime.missing()

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Convert the network; outputs, zeros and counts are compared."""
        network, inputs = pruned.called()
        any_size = self.runtime.write(network, inputs, path, sparse=True)
        return verify_file(self, self.runtime, pruned, path, any_size=any_size)
