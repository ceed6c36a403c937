"""MNN files, which store weights sparse and skip zeros: the runtime where pruning pays on CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from chita.errors import OutputError
from chita.runtimes.inputs import Inputs
from chita.runtimes.runtime import FileRuntime, Forward

# The converter's own program sends reports of its use to its makers; this part of it does not.
_CONVERTER = "import _tools, sys; _tools.mnnconvert(sys.argv)"
_NONE_SPARSE = "no layer has enough zeros to be stored sparse, so it will not run faster"


@final
class MnnRuntime(FileRuntime):
    """MNN on the CPU.

    Its converter itself chooses which layers it stores sparse: those with more zeros than a limit
    between 50 and 70 per cent.
    """

    name = "mnn"
    extra = "mnn"
    modules = ("MNN", "_tools", "onnx", "onnxscript")
    suffix = ".mnn"
    exact_constants = False  # the converter dumps six digits after the point
    tolerance = 1e-3  # it approximates exponentials

    def convert(self, source: Path, path: Path, *, sparse: bool) -> None:
        """Convert it; with `sparse`, the converter looks for zeros."""
        asked = ("-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path))
        zeros = ("--detectSparseSpeedUp",) if sparse else ()
        _convert(*asked, "--bizCode", "chita", *zeros, made=path)

    def load(self, path: Path, inputs: Inputs) -> Forward:
        """Load a module for one thread, in float32."""
        with _silenced():
            import MNN.expr as expr  # noqa: PLC0415 (an optional library)
            import MNN.nn  # noqa: PLC0415

            manager = MNN.nn.create_runtime_manager((
                {"backend": "CPU", "numThread": 1, "precision": "high"},
            ))
            reader = MNN.Interpreter(str(path))
            outputs = list(reader.getSessionOutputAll(reader.createSession({"numThread": 1})))
            network = MNN.nn.load_module_from_file(
                str(path), list(inputs.names), outputs, runtime_manager=manager
            )
        kinds = [expr.float if t.is_floating_point() else expr.int for t in inputs.tensors]
        types = [torch.float32 if kind == expr.float else torch.int32 for kind in kinds]
        entries: dict[tuple[torch.Size, ...], list[Any]] = {}  # new ones make it plan again

        def run(inputs: Inputs) -> dict[str, Tensor]:
            shapes = tuple(tensor.shape for tensor in inputs.tensors)
            if shapes not in entries:
                entries.clear()
                entries[shapes] = [
                    expr.placeholder(list(shape), expr.NCHW, kind)
                    for shape, kind in zip(shapes, kinds, strict=True)
                ]
            for entry, tensor, kind in zip(entries[shapes], inputs.tensors, types, strict=True):
                entry.write(tensor.to(kind).contiguous().numpy())
            found = network.forward(entries[shapes])
            listed = found if isinstance(found, list) else [found]
            return {
                name: torch.from_numpy(expr.convert(value, expr.NCHW).read().copy())
                for name, value in zip(outputs, listed, strict=True)
            }

        return run

    def constants(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the weights of convolutions, as which it keeps linear layers too, flat."""
        for name, operator in _operators(path):
            stored = operator.get("main", {})
            if stored.get("weight"):
                yield name, torch.tensor(stored["weight"], dtype=torch.float32, device="cpu")
            elif "sparseParameter" in stored:
                form = stored["quanParameter"]
                flat = torch.zeros(form["weightSize"], dtype=torch.float32, device="cpu")
                # The dump rounds values, which must not look like zeros.
                flat[torch.tensor(form["index"], dtype=torch.int64, device="cpu")] = 1.0
                yield name, flat

    def notes(self, path: Path) -> tuple[str, ...]:
        """Say how many layers are stored sparse."""
        layers = stored_sparse(path)
        return (f"{layers} layers are stored sparse" if layers else _NONE_SPARSE,)


def stored_sparse(path: Path) -> int:
    """Return how many layers of a file are stored sparse."""
    return sum("sparseParameter" in found.get("main", {}) for _, found in _operators(path))


def _operators(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the operators of a file with their names, as its converter dumps them."""
    stat = path.stat()
    dumped = _dumped(path, stat.st_mtime_ns, stat.st_size)
    return [(found.get("name", ""), found) for found in dumped["oplists"]]


@lru_cache(maxsize=1)  # for one file as it was at one time
def _dumped(path: Path, _time: int, _size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "network.json"
        _convert("-f", "MNN", "--modelFile", str(path), "--JsonFile", str(dump), made=dump)
        found: dict[str, Any] = json.loads(dump.read_text())
        return found


def _convert(*arguments: str, made: Path) -> None:
    """Run the converter in a process of its own, since it ends that of its caller on failure."""
    asked = [sys.executable, "-P", "-c", _CONVERTER, *arguments]  # -P: nothing from this folder
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if not made.is_file():
        lines = (done.stdout + done.stderr).splitlines()
        reasons = [line.partition("] ")[2] for line in lines if "Not Support" in line]
        last = next((line for line in reversed(lines) if line.strip()), "it says nothing")
        raise OutputError(
            f"MNN's converter wrote nothing (exit code {done.returncode}): "
            f"{(reasons or [last])[0].strip().rstrip('.!')}. Export the network as onnx or dense."
        )


@contextmanager
def _silenced() -> Iterator[None]:
    """Let the library not print what the processor can do, among results or errors."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    try:
        with Path(os.devnull).open("wb") as nowhere:
            for stream, _ in kept:
                os.dup2(nowhere.fileno(), stream)
        yield
    finally:
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
