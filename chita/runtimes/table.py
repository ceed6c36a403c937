"""The table of all runtimes."""

from __future__ import annotations

from collections.abc import Sequence

from chita.errors import InputError
from chita.naming import nearest
from chita.runtimes.csr import CsrRuntime
from chita.runtimes.mnn import MnnRuntime
from chita.runtimes.onnx import OnnxRuntime
from chita.runtimes.openvino import OpenVinoRuntime
from chita.runtimes.pytorch import TorchRuntime
from chita.runtimes.runtime import Runtime

_ALL = (TorchRuntime, CsrRuntime, OnnxRuntime, MnnRuntime, OpenVinoRuntime)
RUNTIMES: dict[str, Runtime] = {runtime.name: runtime() for runtime in _ALL}
"""Every runtime, by its name on the command line."""


def find_runtimes(names: Sequence[str] | None) -> tuple[Runtime, ...]:
    """Return runtimes by their names, all of them for None.

    Raises `InputError` when one is unknown or named twice, or cannot be used here though it is
    named.
    """
    if names is None:
        return tuple(RUNTIMES.values())
    unknown = [name for name in names if name not in RUNTIMES]
    if unknown:
        raise InputError(f"Unknown runtime {unknown[0]!r}. {nearest(str(unknown[0]), RUNTIMES)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"runtimes are {list(names)}; name each once, one at least.")
    found = tuple(RUNTIMES[name] for name in names)
    for runtime in found:
        runtime.check()
    return found
