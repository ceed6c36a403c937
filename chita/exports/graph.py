"""Files that a runtime reads: converted by it, opened in it and run to check them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

from chita.exports.checks import verify_file
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.mnn import MnnRuntime, stored_sparse
from chita.runtimes.onnx import OnnxRuntime
from chita.runtimes.openvino import OpenVinoRuntime
from chita.runtimes.runtime import FileRuntime

NONE_SPARSE = "no layer has enough zeros to be stored sparse, so it will not run faster"


class Graph(Kind):
    """A file for a runtime, whose converter writes it."""

    runtime: ClassVar[FileRuntime]

    def missing(self) -> str | None:
        """The runtime and its converter must be installed."""
        return self.runtime.missing()

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Convert the network; outputs, zeros and counts are compared."""
        network, inputs = pruned.called()
        any_size = self.runtime.write(network, inputs, path, sparse=True)
        return verify_file(self, self.runtime, pruned, path, any_size=any_size)


@final
class Onnx(Graph):
    """A file of PyTorch's exporter for the many programs that read ONNX, checked in onnxruntime."""

    name = "onnx"
    about = "a graph for onnxruntime and others; zeros are stored"
    runtime = OnnxRuntime()
    suffix = OnnxRuntime.suffix


@final
class Mnn(Graph):
    """A file for MNN, which stores weights with many zeros sparse, and skips the zeros."""

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


@final
class OpenVino(Graph):
    """A file in OpenVINO's own format, and its weights in one that ends in `.bin`."""

    name = "openvino"
    about = "a graph for OpenVINO, and a .bin file beside it; zeros are stored"
    runtime = OpenVinoRuntime()
    suffix = OpenVinoRuntime.suffix
