"""The table of all kinds of files."""

from __future__ import annotations

from chita.exports.dense import Dense
from chita.exports.graph import Graph
from chita.exports.hugging_face import HuggingFace
from chita.exports.kind import Kind
from chita.exports.semi_structured import SemiStructured
from chita.exports.sparse import Sparse
from chita.exports.torch_csr import TorchCsr
from chita.runtimes.mnn import MnnRuntime
from chita.runtimes.onnx import OnnxRuntime
from chita.runtimes.openvino import OpenVinoRuntime

_ONNX = "a graph for onnxruntime and others; zeros are stored"
_MNN = "a graph for MNN; layers with enough zeros are stored without them, and run faster"
_OPENVINO = "a graph for OpenVINO, and a .bin file beside it; zeros are stored"
_ALL = (
    *(Dense(), Sparse(), HuggingFace()),
    Graph("onnx", _ONNX, OnnxRuntime()),
    Graph("mnn", _MNN, MnnRuntime()),
    Graph("openvino", _OPENVINO, OpenVinoRuntime()),
    *(TorchCsr(), SemiStructured()),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind, by its name on the command line."""
