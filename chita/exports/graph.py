"""Files that a runtime reads: converted by it, opened in it and run to check them."""

from __future__ import annotations

from pathlib import Path
from typing import final

from chita.exports.checks import check_zeros, same_outputs
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.inputs import reference
from chita.runtimes.runtime import FileRuntime

_OTHER_SIZE = 3  # samples that a file which takes any number of them is also tried with


@final
class Graph(Kind):
    """A file for a runtime, whose converter writes it."""

    def __init__(self, name: str, about: str, runtime: FileRuntime) -> None:
        self.name, self.about, self.suffix = name, about, runtime.suffix
        self._runtime = runtime

    def check(self) -> None:
        """The runtime and its converter must be installed."""
        self._runtime.check()

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Convert the network; run the file, with two numbers of samples where it takes any.

        Its outputs must be those of the network within the runtime's tolerance, and every masked
        tensor must be stored with all its zeros and with as many values that are not zero.
        """
        runtime = self._runtime
        network, inputs = pruned.called()
        any_size = runtime.write(network, inputs, path, sparse=True)
        run = runtime.load(path, inputs)
        tried = [inputs]
        if any_size:
            tried.append(inputs.varied(_OTHER_SIZE if inputs.samples != _OTHER_SIZE else 2))
        gap = max(
            same_outputs(run(given), reference(network, given), given, runtime.tolerance)
            for given in tried
        )
        constants = runtime.constants(path)
        nnz, notes = check_zeros(pruned, constants, exact=runtime.exact_constants)
        if not any_size:
            notes = (f"takes batches of {inputs.samples}, no others", *notes)
        return Checked(nnz=nnz, difference=gap, notes=(*notes, *runtime.notes(path)))
