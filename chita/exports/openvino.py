"""OpenVINO's own format."""

from __future__ import annotations

from typing import final

from chita.exports.graph import Graph
from chita.runtimes.openvino import OpenVinoRuntime


@final
class OpenVino(Graph):
    """A file and its weights, in one that ends in `.bin`."""

    name = "openvino"
    about = "a graph for OpenVINO, and a .bin file beside it; zeros are stored"
    runtime = OpenVinoRuntime()
    suffix = OpenVinoRuntime.suffix
