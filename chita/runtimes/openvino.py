"""OpenVINO files, read and run by its own library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from chita.runtimes.inputs import Inputs
from chita.runtimes.runtime import FileRuntime, Forward


@final
class OpenVinoRuntime(FileRuntime):
    """OpenVINO on the CPU."""

    name = "openvino"
    extra = "openvino"
    modules = ("openvino", "onnx", "onnxscript")
    why_not = (
        "it skips zeros only in int8 linear layers on processors with AMX, and computes with "
        "them elsewhere"
    )
    suffix = ".xml"

    def convert(self, source: Path, path: Path, *, sparse: bool) -> None:
        """Write the file, and its weights beside it in one that ends in `.bin`."""
        # The converter for modules reports its use to its makers; the reader of ONNX does not.
        import openvino  # noqa: PLC0415 (an optional library)

        openvino.save_model(openvino.Core().read_model(source), path, compress_to_fp16=False)

    def load(self, path: Path, inputs: Inputs) -> Forward:
        """Compile the network for one thread, in float32."""
        import openvino  # noqa: PLC0415 (an optional library)

        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        network = openvino.Core().compile_model(path, "CPU", settings)
        names = [output.get_any_name() for output in network.outputs]
        wanted = {name for entry in network.inputs for name in entry.get_names()}

        def run(inputs: Inputs) -> dict[str, Tensor]:
            given = {name: t.numpy() for name, t in inputs.by_name.items() if name in wanted}
            found = network(given)
            return {n: torch.from_numpy(found[i].copy()) for i, n in enumerate(names)}

        return run

    def constants(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the constants of the graph."""
        import openvino  # noqa: PLC0415 (an optional library)

        for node in openvino.Core().read_model(path).get_ops():
            if node.get_type_name() == "Constant" and node.data.dtype.kind in "fiub":
                yield node.get_friendly_name(), torch.from_numpy(node.data.copy())
