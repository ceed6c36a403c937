"""MNN, which stores sparse weights sparse and skips zeros."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

from chita.exports.graph import Graph
from chita.exports.kind import Checked, Pruned
from chita.runtimes.mnn import MnnRuntime, stored_sparse

NONE_SPARSE = "no layer has enough zeros to be stored sparse, so it will not run faster"


@final
class Mnn(Graph):
    """A file converted with detection of zeros."""

    name = "mnn"
    about = "a graph for MNN; layers with enough zeros are stored without them, and run faster"
    runtime = MnnRuntime()
    suffix = MnnRuntime.suffix

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """As other graphs; how many layers are stored sparse is noted."""
        checked = super().write(pruned, path)
        layers = stored_sparse(path)
        note = f"{layers} layers are stored sparse" if layers else NONE_SPARSE
        return replace(checked, notes=(*checked.notes, note))
