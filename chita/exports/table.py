"""The table of all kinds of files."""

from __future__ import annotations

from chita.exports.dense import Dense
from chita.exports.graph import Mnn, Onnx, OpenVino
from chita.exports.hugging_face import HuggingFace
from chita.exports.kind import Kind
from chita.exports.semi_structured import SemiStructured
from chita.exports.sparse import Sparse
from chita.exports.torch_csr import TorchCsr

_ALL = (Dense, Sparse, HuggingFace, Onnx, Mnn, OpenVino, TorchCsr, SemiStructured)
KINDS: dict[str, Kind] = {kind.name: kind() for kind in _ALL}
"""Every kind, by its name on the command line."""
