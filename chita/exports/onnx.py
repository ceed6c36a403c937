"""ONNX, for the many programs that read it."""

from __future__ import annotations

from typing import final

from chita.exports.graph import Graph
from chita.runtimes.onnx import OnnxRuntime


@final
class Onnx(Graph):
    """A file of PyTorch's exporter, checked with onnxruntime."""

    name = "onnx"
    about = "a graph for onnxruntime and others; zeros are stored"
    runtime = OnnxRuntime()
    suffix = OnnxRuntime.suffix
