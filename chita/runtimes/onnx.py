"""onnxruntime, which runs ONNX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.runtimes.exporter import write_onnx
from chita.runtimes.inputs import Inputs
from chita.runtimes.runtime import FileRuntime, Forward


@final
class OnnxRuntime(FileRuntime):
    """onnxruntime on the CPU, by default the one to compare with."""

    name = "onnxruntime"
    extra = "onnx"
    modules = ("onnx", "onnxscript", "onnxruntime")
    why_not = "it stores zeros densely and computes with them"
    suffix = ".onnx"

    def write(self, network: nn.Module, inputs: Inputs, path: Path, *, sparse: bool) -> bool:
        """Write it in its place, since a large file names the one with its tensors."""
        return write_onnx(network, inputs, path)

    def convert(self, source: Path, path: Path, *, sparse: bool) -> None:
        """Link the file, and what lies beside it, under the same name."""
        for file in source.parent.glob(f"{source.name}*"):
            (path.parent / file.name).hardlink_to(file)

    def load(self, path: Path, inputs: Inputs) -> Forward:
        """Open a session on one thread, which neither spins nor writes profiles."""
        import onnxruntime  # noqa: PLC0415 (an optional library)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        outputs = [output.name for output in session.get_outputs()]
        wanted = {entry.name for entry in session.get_inputs()}

        def run(inputs: Inputs) -> dict[str, Tensor]:
            given = {name: t.numpy() for name, t in inputs.by_name.items() if name in wanted}
            found = session.run(outputs, given)
            return {n: torch.from_numpy(value) for n, value in zip(outputs, found, strict=True)}

        return run

    def constants(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the initialisers of the graph."""
        import onnx  # noqa: PLC0415 (an optional library)

        model = onnx.load(str(path))
        for entry in model.graph.initializer:
            array = onnx.numpy_helper.to_array(entry, base_dir=str(path.parent))
            if array.dtype.kind in "fiub":
                yield entry.name, torch.from_numpy(array.copy())
