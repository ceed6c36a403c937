"""Interface of runtimes: take a network, run it, and say if zeros make it faster there."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor, nn

from chita.errors import InputError
from chita.imports import install
from chita.runtimes.compare import TOLERANCE
from chita.runtimes.exporter import write_onnx
from chita.runtimes.inputs import Inputs

_SOURCE = "network.onnx"

Forward = Callable[[Inputs], Mapping[str, Tensor]]
"""The forward pass of a network in a runtime: inputs to outputs by name, on one thread."""


@final
@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network ready to run.

    Fields: `run`; the `files` that it was opened from, none if it never left memory; `note`, what
    a user should know of it, or empty.
    """

    run: Forward
    files: tuple[Path, ...] = ()
    note: str = ""


class Runtime(ABC):
    """A program that runs networks.

    Fields:
        name: as on the command line.
        extra: of this package, by which it is installed; modules: what must be importable.
        why_not: why zeros make nothing faster there; empty if they can.
        tolerance: by how much its outputs may differ from PyTorch's (`compare.Difference.value`).
    """

    name: ClassVar[str]
    extra: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    why_not: ClassVar[str] = ""
    tolerance: ClassVar[float] = TOLERANCE

    def check(self) -> None:
        """Raise `InputError` if it cannot be used here."""
        absent = [name for name in self.modules if find_spec(name) is None]
        if absent:
            raise InputError(
                f"{self.name} needs {', '.join(absent)}, which cannot be imported here. Install "
                f"it: {install(self.extra, absent)}."
            )

    @abstractmethod
    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Loaded:
        """Bring a network into the runtime, by files if need be.

        Args:
            network: on the CPU; it stays as it is.
            inputs: of the size it will run with.
            folder: for files, made if it is not there. They must stay until it runs no more.
            sparse: let the runtime look for zeros.

        Raises `InputError` when it cannot run this network.
        """


class FileRuntime(Runtime):
    """A runtime that reads a network from a file of its own kind, made from an ONNX file."""

    suffix: ClassVar[str]
    exact_constants: ClassVar[bool] = True
    """True if `constants` gives values as they are stored, even the smallest ones."""

    @abstractmethod
    def convert(self, source: Path, path: Path, *, sparse: bool) -> None:
        """Make the file `path`, and what belongs to it beside it, from an ONNX file."""

    @abstractmethod
    def load(self, path: Path, inputs: Inputs) -> Forward:
        """Open a file to be run on one thread, with inputs such as these."""

    def notes(self, path: Path) -> tuple[str, ...]:
        """Return sentences about a file that was written."""
        return ()

    @abstractmethod
    def constants(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the tensors stored in a file, zeros included, under the names there."""

    def write(self, network: nn.Module, inputs: Inputs, path: Path, *, sparse: bool) -> bool:
        """Write a network to `path`, and beside it what belongs to it.

        Return whether the file takes any number of samples, or only as many as the inputs have.

        Raises `InputError` when it cannot be converted.
        """
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / _SOURCE
            any_size = write_onnx(network, inputs, source)
            self.convert(source, path, sparse=sparse)
        return any_size

    def prepare(self, network: nn.Module, inputs: Inputs, folder: Path, *, sparse: bool) -> Loaded:
        """Convert it in the folder, and open that file.

        The ONNX file stays there, for the next runtime that wants the same network.
        """
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / _SOURCE
        if not source.exists():
            write_onnx(network, inputs, source)
        own = folder / f"{self.name}-{'sparse' if sparse else 'plain'}"
        own.mkdir()
        path = own / f"network{self.suffix}"
        self.convert(source, path, sparse=sparse)
        return Loaded(run=self.load(path, inputs), files=tuple(sorted(own.iterdir())))
