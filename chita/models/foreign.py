"""Files of other programs, which hold no tensors under the names of a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

_CHECKED = "chita export compares such a file as it writes it."
_KINDS = {
    ".onnx": ("an ONNX graph", _CHECKED),
    ".mnn": ("a graph of MNN", _CHECKED),
    ".xml": ("a graph of OpenVINO", _CHECKED),
    ".bin": ("the weights of a graph of OpenVINO", _CHECKED),
    ".gguf": (
        "a GGUF file of llama.cpp",
        "from_pretrained of transformers reads it by gguf_file=, and save_pretrained writes that.",
    ),
    ".tflite": ("a graph of LiteRT", ""),
    ".mlmodel": ("a graph of Core ML", ""),
    ".pb": ("a graph of TensorFlow", ""),
    ".h5": ("an HDF5 file", ""),
    ".keras": ("a network of Keras", ""),
    ".engine": ("an engine of TensorRT", ""),
    ".pt2": ("a program of torch.export", ""),
}
_SCRIPT = ("a TorchScript archive", "Save the state_dict of the network that it was made of.")


def told_of(path: Path) -> str | None:
    """Return what to say of a file that is no checkpoint, None where it may be one."""
    kind = _KINDS.get(path.suffix.lower())
    if path.suffix == ".bin" and not path.with_suffix(".xml").is_file():
        kind = None
    if kind is None and path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            scripted = any(name.endswith("/constants.pkl") for name in archive.namelist())
        kind = _SCRIPT if scripted else None
    if kind is None:
        return None
    return (
        f"{path} is {kind[0]}, not tensors under the names of the network. Give the run folder or "
        f"the checkpoint (safetensors, PyTorch, .chita) that it was made from. {kind[1]}"
    ).rstrip()
